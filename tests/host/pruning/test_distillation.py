import math

import pytest
import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput, SequenceClassifierOutput

from obert_edge.errors import UsageError
from obert_edge.host.pruning import DistillationLoss, Teacher, distillation_loss
from obert_edge.host.pruning.distillation import hidden_state_loss

from .models import make_batches, make_bert, make_bert_qa, make_distilbert


def outputs(*rows):
    return SequenceClassifierOutput(logits=torch.tensor(rows, dtype=torch.float32))


def softmax(values, temperature):
    exponentials = [math.exp(value / temperature) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def test_it_is_the_divergence_from_teacher_to_student_at_the_temperature():
    ours, theirs, temperature = [1.0, -1.0, 0.5], [2.0, 0.0, -3.0], 2.0
    p, q = softmax(theirs, temperature), softmax(ours, temperature)
    expected = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q))
    loss = distillation_loss(outputs(ours), outputs(theirs), None, hardness=1.0, temperature=temperature)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_classes_that_are_independent_have_a_divergence_each():
    ours, theirs, temperature = [1.0, -1.0, 0.5], [2.0, 0.0, -3.0], 2.0
    expected = 0.0
    for one, other in zip(theirs, ours):
        p, q = (1 / (1 + math.exp(-value / temperature)) for value in (one, other))
        expected += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    loss = distillation_loss(
        outputs(ours), outputs(theirs), None, hardness=1.0, temperature=temperature, multi_label=True
    )
    assert float(loss) == pytest.approx(temperature**2 * expected / 3, rel=1e-5)
    # A softmax does not see what is added to all logits, and the threshold of a class does.
    shifted = outputs([value + 1 for value in theirs])
    alone, together = (
        distillation_loss(
            shifted, outputs(theirs), None, hardness=1.0, temperature=temperature, multi_label=independent
        )
        for independent in (True, False)
    )
    assert float(alone) > 0.05
    assert float(together) == pytest.approx(0.0, abs=1e-6)


def test_it_is_a_mean_over_rows():
    one = distillation_loss(outputs([1, 0]), outputs([0, 2]), None, hardness=1.0, temperature=2.0)
    two = distillation_loss(
        outputs([1, 0], [3, 3]), outputs([0, 2], [3, 3]), None, hardness=1.0, temperature=2.0
    )
    assert float(two) == pytest.approx(float(one) / 2)


def test_start_and_end_of_an_answer_are_averaged():
    def answer(start, end):
        return QuestionAnsweringModelOutput(
            start_logits=torch.tensor([start], dtype=torch.float32),
            end_logits=torch.tensor([end], dtype=torch.float32),
        )

    loss = distillation_loss(
        answer([1, 0], [0, 3]), answer([0, 2], [1, 1]), None, hardness=1.0, temperature=2.0
    )
    start = distillation_loss(outputs([1, 0]), outputs([0, 2]), None, hardness=1.0, temperature=2.0)
    end = distillation_loss(outputs([0, 3]), outputs([1, 1]), None, hardness=1.0, temperature=2.0)
    assert float(loss) == pytest.approx(float(start + end) / 2)


def test_hardness_mixes_label_loss_and_distillation():
    ours, theirs, label_loss = outputs([1, 0]), outputs([0, 2]), torch.tensor(0.7)

    def loss(hardness):
        return float(distillation_loss(ours, theirs, label_loss, hardness=hardness, temperature=2.0))

    assert loss(0.0) == pytest.approx(0.7)
    assert loss(0.25) == pytest.approx(0.75 * 0.7 + 0.25 * loss(1.0))


def test_full_hardness_ignores_labels_altogether():
    ours, theirs = outputs([1, 0]), outputs([0, 2])
    with_nan = distillation_loss(ours, theirs, torch.tensor(float("nan")), hardness=1.0, temperature=2.0)
    assert torch.isfinite(with_nan)


def test_a_regression_has_the_squared_difference():
    loss = distillation_loss(outputs([1.0], [2.0]), outputs([3.0], [2.0]), None, hardness=1.0, temperature=5)
    assert float(loss) == pytest.approx(2.0)


def test_only_valid_rows_count():
    ours, theirs = outputs([1, 0], [9, -9]), outputs([0, 2], [-9, 9])
    some = distillation_loss(
        ours, theirs, None, hardness=1.0, temperature=2.0, valid=torch.tensor([True, False])
    )
    only = distillation_loss(outputs([1, 0]), outputs([0, 2]), None, hardness=1.0, temperature=2.0)
    assert float(some) == pytest.approx(float(only))


def test_a_student_equal_to_its_teacher_has_no_loss_and_no_gradient():
    student, teacher = make_bert().eval(), make_bert()
    loss, _ = DistillationLoss(teacher)(student, make_batches(1)[0])
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert all(p.grad.abs().max() < 1e-4 for p in student.parameters() if p.grad is not None)


def test_training_on_it_moves_the_student_to_the_teacher_and_leaves_the_teacher_alone():
    student, teacher = make_bert(0), make_bert(1)
    with torch.no_grad():
        teacher.classifier.weight.mul_(30)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distillation = DistillationLoss(teacher, temperature=2.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    batch = make_batches(1)[0]
    student.eval()
    losses = []
    for _ in range(15):
        loss, outputs = distillation(student, batch)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    assert outputs.logits.shape == (4, 3)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())


def test_a_teacher_takes_what_it_knows_of_the_students_inputs():
    batch = {**make_batches(1)[0], "token_type_ids": torch.zeros(4, 7, dtype=torch.long)}
    answer = Teacher(make_distilbert().train())(batch)  # DistilBert has no token types
    assert answer.logits.shape == (4, 3)
    assert getattr(answer, "loss", None) is None
    assert not answer.logits.requires_grad


def test_question_answering_models_distil_without_labels():
    batch = {key: value for key, value in make_batches(1)[0].items() if key != "labels"}
    loss, _ = DistillationLoss(make_bert_qa())(make_bert_qa().train(), batch)
    assert torch.isfinite(loss)


def test_mismatches_and_values_out_of_range_are_refused():
    ours = outputs([1, 0])
    with pytest.raises(UsageError, match="shape"):
        distillation_loss(ours, outputs([1, 0, 0]), None, hardness=1.0, temperature=2.0)
    with pytest.raises(UsageError, match="label loss"):
        distillation_loss(ours, ours, None, hardness=0.5, temperature=2.0)
    for hardness, temperature in ((-0.1, 2), (1.1, 2), (1, 0), (1, -1)):
        with pytest.raises(UsageError):
            DistillationLoss(make_bert(), hardness=hardness, temperature=temperature)
    with pytest.raises(UsageError, match="logits"):
        distillation_loss({"hidden": torch.zeros(1)}, ours, None, hardness=1.0, temperature=2.0)


def test_hidden_states_differ_by_the_mean_over_real_tokens_channels_and_layers():
    student = [torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2, 3)]
    teacher = [torch.full((1, 2, 3), 9.0), torch.full((1, 2, 3), 1.0), torch.full((1, 2, 3), 4.0)]
    assert float(hidden_state_loss(student, teacher)) == pytest.approx((1 + 9) / 2)
    teacher[1][0, 1] = 100.0  # padding
    mask = torch.tensor([[1, 0]])
    assert float(hidden_state_loss(student, teacher, mask)) == pytest.approx((1 + 9) / 2)


def test_fewer_layers_follow_evenly_spaced_ones_or_those_named():
    states = [torch.full((1, 1, 1), float(i)) for i in range(5)]  # embeddings, then layers 1..4
    halves = [states[0], states[2], states[4]]
    assert float(hidden_state_loss(halves, states)) == 0.0
    firsts = [states[0], states[1], states[2]]
    assert float(hidden_state_loss(firsts, states, layers=[0, 1])) == 0.0
    assert float(hidden_state_loss(firsts, states)) > 0
    for layers in ([0], [0, 4]):
        with pytest.raises(UsageError, match="cannot be followed"):
            hidden_state_loss(firsts, states, layers=layers)
    with pytest.raises(UsageError, match="hidden states of the student have shape"):
        hidden_state_loss([torch.zeros(1, 1, 2)] * 2, states)


def test_hidden_states_are_added_to_the_loss_on_logits():
    student, teacher = make_bert(0).eval(), make_bert(1)
    batch = make_batches(1)[0]
    plain, _ = DistillationLoss(teacher)(student, batch)
    deep, outputs = DistillationLoss(teacher, hidden_states=0.5)(student, batch)
    with torch.no_grad():
        theirs = teacher(**batch, output_hidden_states=True).hidden_states
    expected = plain + 0.5 * hidden_state_loss(outputs.hidden_states, theirs)
    assert float(deep.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
