"""Options in the prose of an instruction; in doubt there are none."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.options import Choices, options_from_instruction, read_choices

THREE = ("happy", "sad", "angry")
YES_NO = ("yes", "no")
CASES = [
    ("Choose from happy, sad or angry.", THREE),
    ("Choose from happy, sad, or angry.", THREE),
    ("Please choose the emotion from happy, sad, and angry.", THREE),
    ("Select one of the following emotions: happy, sad, angry.", THREE),
    ("Pick between happy, sad and angry based on the audio.", THREE),
    ("The answer could be happy, sad, or angry.", THREE),
    ("The answer should be either happy, sad or angry.", THREE),
    ("Respond with one of the following: happy, sad, angry", THREE),
    ("Answer with happy, sad, or angry.", THREE),
    ("The options are happy, sad and angry.", THREE),
    ("Options: happy, sad, angry", THREE),
    ("Options: happy/sad/angry", THREE),
    ("Options: 'happy', 'sad', 'angry'", THREE),
    ('Which emotion? "happy", "sad", or "angry"?', THREE),
    ("Options: (A) happy (B) sad (C) angry", THREE),
    ("A. happy\nB. sad\nC. angry\nAnswer:", THREE),
    ("(a) happy, (b) sad, or (c) angry?", THREE),
    ("1. happy\n2. sad\n3. angry", THREE),
    ("(1) happy (2) sad (3) angry", THREE),
    ("Select the emotion:\n- happy\n- sad\n- angry", THREE),
    ("Select the emotion:\n* happy\n* sad\n* angry", THREE),
    ("Classify the emotion [happy, sad, angry].", THREE),
    ("Choose the emotion (happy, sad, angry).", THREE),
    ("Choose from **happy**, **sad**, or **angry**.", THREE),
    ("Choose from happy, sad and angry, and respond with only the label.", THREE),
    ("The answer could be happy, sad or angry. Choose from happy, sad or angry.",
     THREE),
    ("Is it the same speaker? Answer yes or no.", YES_NO),
    ('The answer could be "yes" or "no".', YES_NO),
    ("The answer should be 'yes' or 'no'.", YES_NO),
    ("Same speaker (yes/no)?", YES_NO),
    ("Answer True or False.", ("True", "False")),
    ("Yes or no?", ("Yes", "no")),
    ("The answer could be clean or noisy.", ("clean", "noisy")),
    ("Which sounds better? Choose between first and second.", ("first", "second")),
    ("Choose from rain, drinking or sipping, and door or wood knock.",
     ("rain", "drinking or sipping", "door or wood knock")),
    ("(1) 1.5m (2) 0.5m (3) 2.5m (4) 3m", ("1.5m", "0.5m", "2.5m", "3m")),
    ("(1) -45 degree (2) +135 degree", ("-45 degree", "+135 degree")),
    ("请从开心、悲伤、愤怒中选择。", ("开心", "悲伤", "愤怒")),
    ("选项\uff1a开心、悲伤、愤怒", ("开心", "悲伤", "愤怒")),
]  # fmt: skip
NOTHING = [
    "",
    "Transcribe the audio.",
    "What is the emotion of the speaker?",
    "Listen carefully, then answer in one word.",
    "Please answer in one word, and do not explain.",
    "Choose the best answer.",
    "Choose from the following.",
    "Choose from happy.",
    "Options: happy, happy",
    "Options: happy, sad. Options: angry, neutral.",
    "Is the voice high, low, calm or tense and what does that tell about the speaker?",
    "Count the speakers from the audio, and tell me the number.",
    "Answer with the number of seconds, or with the number of minutes in the clip.",
    "A. only one option",
    "Choose from rain and wind or sun or snow.",
    "x" * 30_000,
]


@pytest.mark.parametrize(("instruction", "options"), CASES)
def test_options_are_read(instruction, options):
    assert options_from_instruction(instruction) == options


@pytest.mark.parametrize("instruction", NOTHING)
def test_in_doubt_there_are_none(instruction):
    assert options_from_instruction(instruction) is None


def test_letters_are_kept_beside_their_options():
    expected = Choices(("happy", "sad"), ("A", "B"))
    assert read_choices("Which? A) happy B) sad") == expected
    assert read_choices("Choose from happy or sad.") == Choices(("happy", "sad"))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(
            st.sampled_from(
                ("choose from ", "happy", ", ", " or ", "(A) ", "B. ", "'", '"', "\n")
            ),
            max_size=40,
        ).map("".join),
    )
)
def test_no_text_breaks_the_reader(instruction):
    options = options_from_instruction(instruction)
    assert options is None or (len(options) >= 2 and all(options))


@pytest.mark.parametrize(
    "piece",
    ["choose from ", "(A) ", "'a', ", "[a", "yes or no ", "a, ", "options ", "\n"],
)
def test_long_instructions_are_bounded(piece):
    begin = time.process_time()
    options_from_instruction((piece * 20_000)[:19_999])
    assert time.process_time() - begin < 5.0
