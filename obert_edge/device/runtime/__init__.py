"""Running a bundle: its engine library, its session, and whether it gives the right bits here."""
