"""The sentences that the examples' models learn from: letters to a town library, its handbook, its news."""

from __future__ import annotations

#: Letters to the library, by the desk that should answer them.
LETTERS = {
    "loans": [
        "I would like to keep my books for another week",
        "Please renew the novel that I borrowed last month",
        "The book I returned is still on my list of loans",
        "How many books may I borrow at once?",
        "I lost a book that I borrowed, what does it cost?",
        "Can you put the new atlas aside for me?",
        "My loans are overdue, do I have to pay a fine?",
        "I want to reserve a novel that is lent out",
        "May I return a borrowed book at the other branch?",
        "Please tell me when the reserved book has been returned",
        "The fine for the overdue atlas is too high",
        "Is it possible to borrow films and records too?",
    ],
    "rooms": [
        "We are looking for a quiet room for ten people",
        "Is the reading room open on Sunday?",
        "Our choir would like to use the hall in the evening",
        "How many chairs are there in the large hall?",
        "I want to book the meeting room for Tuesday",
        "Is there a table where two people can work in quiet?",
        "The heating in the reading room does not work",
        "Does the hall have a piano and a screen?",
        "May we bring coffee into the meeting room?",
        "Please cancel the hall that we booked for Friday",
        "What does the meeting room cost for an evening?",
        "On which floor is the quiet room?",
    ],
    "computers": [
        "I forgot the password of my account",
        "The printer on the first floor is out of paper",
        "How do I connect my phone to the wireless network?",
        "The web page shows an error when I log in",
        "My account is locked after three wrong passwords",
        "The computer by the window does not start",
        "Can I print from my own phone?",
        "The network is slow and the connection breaks",
        "I cannot log in to the catalog from home",
        "The screen of the computer stays black",
        "Please send me a new password by mail",
        "The scanner saves an empty file",
    ],
}

#: Paragraphs of the library's handbook, each with questions that it answers.
HANDBOOK = {
    "Books may be kept for four weeks. A loan is renewed twice unless somebody waits for the book.": [
        "For how long may I keep a book?",
        "Can a loan be renewed?",
        "How many weeks do I have to read a novel?",
    ],
    "An overdue book costs ten cents a day. A lost book is paid for at the price of a new one.": [
        "What is the fine for an overdue book?",
        "I lost a book, what do I pay?",
        "How much does it cost to return a book too late?",
    ],
    "Children under twelve need the signature of a parent for a card. Their card is free.": [
        "Can my daughter get a card?",
        "Does a child pay for the card?",
        "What must a parent sign for a son or daughter?",
    ],
    "Forgotten passwords are reset at the desk. After five wrong ones an account is locked for an hour.": [
        "I forgot my password",
        "Why is my account locked?",
        "How do I log in again after a wrong password?",
    ],
    "The hall seats eighty people. It has a piano, and choirs may practice there in the evening.": [
        "Where can our choir practice?",
        "Is there a piano?",
        "Which room is large enough for eighty guests?",
    ],
    "Bags and coats go into the lockers at the entrance. A locker takes a coin and gives it back.": [
        "Where do I leave my coat?",
        "May I take my bag with me?",
        "What does a locker take?",
    ],
    "Printing costs five cents a page. Phones print over the wireless network too.": [
        "How do I print from my phone?",
        "What does a printed page cost?",
        "Is there a printer?",
    ],
    "The bus stops at the entrance. Bicycles are parked behind the house, cars under the market.": [
        "Where do I park my car?",
        "Which way do I get there by bus?",
        "Is there a place for my bicycle?",
    ],
}

#: Facts of a notice, each with questions about what fills its place.
FACTS = {
    "The library opens at {hour}.": [
        "When does the library open?",
        "At what time do you open?",
        "When can I come in?",
    ],
    "The hall is on the {floor} floor.": [
        "On which floor is the hall?",
        "Where is the hall?",
        "Which floor is the hall on?",
    ],
    "A card costs {number} euros.": [
        "How much does a card cost?",
        "What is the price of a card?",
        "What does a card cost?",
    ],
    "Books may be kept for {time}.": [
        "How long may I keep a book?",
        "For how long may books be kept?",
        "How long can a book be kept?",
    ],
    "{person} leads the choir.": [
        "Who leads the choir?",
        "Who is the leader of the choir?",
        "Who conducts the choir?",
    ],
    "The market is held on {day}.": [
        "When is the market held?",
        "On which day is the market?",
        "Which day is market day?",
    ],
    "The bus comes from {city}.": [
        "Where does the bus come from?",
        "From which city does the bus come?",
        "What city is the bus from?",
    ],
    "The computers are a gift of {company}.": [
        "Who gave the computers?",
        "Whose gift are the computers?",
        "Which company gave the computers?",
    ],
}

#: Sentences of the news, with a place for each kind of entity.
NEWS = [
    "{person} has worked for {company} in {city} since May.",
    "{company} opens an office in {city}.",
    "The mayor of {city} met {person} on Monday.",
    "{person} and {person} left {company} last year.",
    "{person} was born in {city} and lives in {city}.",
    "Yesterday {company} bought {company} for ten million.",
    "In {city} the new director of {company}, {person}, spoke to the press.",
    "A train from {city} to {city} was late, said {person}.",
    "{company} hired {person}.",
    "The factory of {company} near {city} is closed.",
    "She met {person} at the station of {city}.",
    "According to {person}, {company} builds bridges.",
]

#: What the places of ``FACTS`` and ``NEWS`` are filled with.
FILLINGS = {
    "hour": ["seven", "eight", "nine", "ten", "noon", "midnight"],
    "floor": ["ground", "first", "second", "third", "top"],
    "number": ["twelve", "fifteen", "twenty", "thirty", "forty", "fifty"],
    "time": ["two weeks", "three weeks", "four weeks", "six weeks", "a month", "two months"],
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "person": [
        f"{first} {last}"
        for first in ("Anna", "Bruno", "Clara", "David", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas")
        for last in ("Berg", "Costa", "Lind", "Moreau", "Rossi", "Amini", "Novak", "Weber")
    ],
    "city": ["Lisbon", "Oslo", "Turin", "New Delhi", "Lima", "Cape Town", "Kyoto", "Ghent", "Bergen"],
    "company": ["Norda", "Alto Bridges", "Kestrel Works", "Polaris", "Blue Harbor", "Sienna Bank", "Volt"],
}
