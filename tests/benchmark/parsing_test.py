"""Closed-label answers: what counts as naming an option, and what does not."""

import collections
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import parsing
from benchmark.typing import Example, Parsed, Task

EMOTIONS = ("happy", "sad", "angry", "neutral")
FEELINGS = ("happy", "sad")
YES_NO = ("yes", "no")
GENDER = ("male", "female")
SPEECH = ("speech", "no speech")
DAILY = ("no_emotion", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
SOUNDS = ("drinking or sipping", "door or wood knock", "rain", "sea waves")
COUNTS = ("one", "two", "three", "four", "five")
SNR = ("ten", "zero", "clean", "five", "fifteen")
AGES = (
    "teenager (<20)",
    "young adult (20-40)",
    "middle-aged adult (40-60)",
    "elderly adult (60-80)",
)
DIALOGUE = ("inform", "question", "directive", "commissive")
TRUTH = ("True", "False")
KEYS = ("C major", "C# major", "A minor", "Ab minor")
DISTANCES = ("0.4m", "2.0m", "4.0m")
GUITARS = ("guitar", "acoustic guitar", "drums")
CHINESE = ("开心", "悲伤", "愤怒")
EMOJI = ("😀", "😢", "😡")
LETTERED = ("(A) happy", "(B) sad", "(C) angry")
PHONES = ("p", "pʰ", "t̪", "t")
CLEAN = ("clean", "noisy")

# What is read: the options' labels, or 'several', or 'none' with its reason.
CASES = {
    EMOTIONS: [
        ("happy", "happy"),
        ("Happy.", "happy"),
        ("  HAPPY!! ", "happy"),
        ("'happy'", "happy"),
        ("“happy”", "happy"),
        ("**Happy**", "happy"),
        ("# Happy", "happy"),
        ("`happy`", "happy"),
        ("> happy", "happy"),
        ("- happy", "happy"),
        ("\uff48\uff41\uff50\uff50\uff59", "happy"),
        ("hap\u200bpy", "happy"),
        ("\x1b[31mhappy\x1b[0m", "happy"),
        ("ha\x00ppy", "happy"),
        ("happy\r\n", "happy"),
        ("The emotion is happy.", "happy"),
        ("The speaker sounds happy in this clip.", "happy"),
        ("I think the speaker is probably happy", "happy"),
        ("It might be happy.", "happy"),
        ("happiness", "happy"),
        ("The speaker speaks happily.", "happy"),
        ("There is a lot of sadness in the voice.", "sad"),
        ("Anger", "angry"),
        ("unhappy", "none absent"),
        ("The speaker is unhappy.", "none absent"),
        ("not happy", "none negated"),
        ("The speaker is not happy.", "none negated"),
        ("The speaker isn't angry.", "none negated"),
        ("The speaker isn\u2019t angry.", "none negated"),
        ("The speaker does not sound very happy.", "none negated"),
        ("neither sad nor happy", "none negated"),
        ("neither sad nor happy, but angry", "angry"),
        ("Neither happy nor sad; neutral.", "neutral"),
        ("not happy, sad, or angry", "none negated"),
        ("not happy, sad", "none ambiguous"),
        ("not happy but sad", "sad"),
        ("not happy; sad", "sad"),
        ("sad, not happy", "sad"),
        ("It is sad and not happy.", "sad"),
        ("sad rather than angry", "sad"),
        ("sad instead of happy", "sad"),
        ("Instead of happy, it is sad.", "sad"),
        ("as opposed to happy, the speaker is sad", "sad"),
        ("more sad than angry", "sad"),
        ("Angry is more likely than sad.", "angry"),
        ("without any anger, the voice is neutral", "neutral"),
        ("no trace of anger; neutral", "neutral"),
        ("It lacks happiness. The tone is sad.", "sad"),
        ("Unlike the sad version, this one is happy.", "happy"),
        ("Happy can be ruled out; I hear a sad voice.", "sad"),
        ("Happy is not correct. It is sad.", "sad"),
        ("Happy is wrong.", "none negated"),
        ("far from happy", "none negated"),
        ("anything but happy", "none negated"),
        ("the opposite of happy", "none negated"),
        ("un-happy", "none negated"),
        ("Sad; they are not, however, angry.", "sad"),
        ("If I had to choose, I would say sad.", "sad"),
        ("She doesn't sound sad at all, she sounds happy!", "happy"),
        ("The user asks whether it is happy or sad. I'd answer sad.", "sad"),
        ("There's no way this is happy", "none negated"),
        ("Hardly sad, more like angry", "angry"),
        ("sad > happy", "several"),
        ("happy: 0.7, sad: 0.3", "several"),
        ("None of the above", "none absent"),
        ("nothing but happy", "happy"),
        ("No doubt happy.", "happy"),
        ("without a doubt angry", "angry"),
        ("The speaker is not only sad but also angry.", "several"),
        ("It is not, in my view, happy.", "none negated"),
        ("I do not believe that the young woman in this recording is happy",
         "none ambiguous"),
        ("happy. Not happy.", "none ambiguous"),
        ("happy or sad", "several"),
        ("It might be sad or happy.", "several"),
        ("either happy or angry", "several"),
        ("happy and sad", "several"),
        ("happy/sad", "several"),
        ("a mix of sad and angry", "several"),
        ("At first happy, then sad.", "several"),
        ("happy, sad, angry, neutral", "none echo"),
        ("Happy, sad, angry, or neutral.", "none echo"),
        ("happy\nsad\nangry\nneutral", "none echo"),
        ("The options are happy, sad, angry, neutral.", "none echo"),
        ("Options: happy, sad, angry, neutral. The speaker sounds sad.", "sad"),
        ("Choose from happy, sad, angry or neutral: the answer is angry.", "angry"),
        ("sad, happy, neutral, angry", "several"),
        ("Is the speaker happy or sad?", "none ignored"),
        ("Happy?", "none ignored"),
        ("Is it happy or sad? The speaker is sad.", "sad"),
        ("Question: happy, sad or angry?\nsad", "sad"),
        ('The speaker says "I am so happy" in a sad voice.', "sad"),
        ('The man said "I am happy today".', "none ignored"),
        ("The transcript says: I am happy.", "none ignored"),
        ("If the pitch is high, the speaker is happy.", "none ignored"),
        ("whether happy or sad is unclear", "none ignored"),
        ("Although the words are happy, the tone is sad.", "several"),
        ("Answer: happy", "happy"),
        ("Answer:\nhappy", "happy"),
        ("answer = happy", "happy"),
        ("The answer is happy.", "happy"),
        ("The correct answer is: **sad**.", "sad"),
        ("It could be happy or sad. Final answer: sad", "sad"),
        ("Sad is possible, happy too.\nAnswer: angry\nBecause it is loud.", "angry"),
        ("Answer: happy\nFinal answer: sad", "sad"),
        ("Answer: happy\nAnswer: sad", "several"),
        ("Answer: happy or sad", "several"),
        ("Answer: not happy", "none negated"),
        ("Answer: unknown. The speaker is happy", "none absent"),
        ("Answer: surprised", "none absent"),
        ("The answer is based on the tone. It is sad.", "none absent"),
        ("The final label is neutral, not angry.", "neutral"),
        ('{"answer": "sad"}', "sad"),
        ('{"label": "angry", "confidence": 0.9}', "angry"),
        (r"Thus \boxed{sad}", "sad"),
        (r"\boxed{\text{sad}}", "sad"),
        ("<answer>angry</answer>", "angry"),
        ("I hear shouting, or joy. <answer>angry</answer> happy", "angry"),
        ("<think>happy or sad? not angry</think>sad", "sad"),
        ("<think>so happy", "none empty"),
        ("~~happy~~ sad", "sad"),
        ("Happy. The voice rises, unlike a sad or angry one.", "happy"),
        ("Happy\n\nThe voice is bright, a sad voice would be slower.", "happy"),
        ("Low, like sad or neutral. Therefore, the speaker is sad.", "sad"),
        ("Angry words, neutral tone. Overall, neutral.", "neutral"),
        ("So the speaker is happy, or is he sad.", "several"),
        ("I cannot listen to audio.", "none refusal"),
        ("I'm sorry, but I can't process audio files.", "none refusal"),
        ("As an AI language model, I cannot tell if it is happy or sad.",
         "none refusal"),
        ("I am unable to determine whether the speaker is happy.", "none refusal"),
        ("I'm not sure, maybe happy.", "none refusal"),
        ("I don't know.", "none refusal"),
        ("Please provide the audio.", "none refusal"),
        ("It is hard to say: happy?", "none refusal"),
        ("I cannot hear well, but my answer is: sad", "sad"),
        ("", "none empty"),
        ("   \n ", "none empty"),
        ("\u200b\u200b", "none empty"),
        ("...", "none absent"),
        ("joyful", "none absent"),
        ("The audio is a recording of a person.", "none absent"),
        ("1", "none absent"),
        ("B", "none absent"),
        ("Sad Sad Sad", "sad"),
        ("sad" * 3, "none absent"),
        ("saddle", "none absent"),
        ("The speaker's anger is evident.", "angry"),
        ("hardly happy", "none negated"),
        ("less happy", "none negated"),
        ("non-neutral", "none negated"),
        ("{happy}", "happy"),
        ("%s happy %(x)s", "happy"),
    ],
    YES_NO: [
        ("Yes", "yes"),
        ("no.", "no"),
        ("Yeah", "yes"),
        ("Nope.", "no"),
        ("Yes, they are the same speaker.", "yes"),
        ("No, there is no noise.", "no"),
        ("No, they are not the same.", "no"),
        ("No there is not", "no"),
        ("There is no noise.", "none absent"),
        ("no noise", "none absent"),
        ("No noise can be heard.", "none absent"),
        ("The answer is no.", "no"),
        ("The answer is 'no'.", "no"),
        ('I would say "yes".', "yes"),
        ("Answer: No. There is no second speaker.", "no"),
        ("no emotion", "none absent"),
        ("Yes or no", "none echo"),
        ("yes/no", "none echo"),
        ("Yes. No.", "several"),
        ("not yes", "none negated"),
        ("Not sure", "none refusal"),
        ("No, I cannot listen to audio.", "none refusal"),
        ("yesterday", "none absent"),
        ("No. 1 is loud.", "none absent"),
        ("Oh no", "none absent"),
        ("Definitely no", "no"),
        ("Yes, but actually no.", "several"),
        ("yes, no doubt", "yes"),
        ("No noise is present, so yes.", "yes"),
        ("note", "none absent"),
        ("I know", "none absent"),
        ("Yes!!!", "yes"),
        ("是", "none absent"),
    ],
    FEELINGS: [
        ("happy or sad", "none echo"),
        ("might be happy or sad", "several"),
        ("Choose from happy or sad.", "none echo"),
        ("not happy", "none negated"),  # and not therefore sad
    ],
    GENDER: [
        ("female", "female"),
        ("Female voice", "female"),
        ("The speaker is a male.", "male"),
        ("a female speaker, not male", "female"),
        ("males", "male"),
        ("man", "none absent"),
        ("The male speaker talks to a female.", "several"),
    ],
    SPEECH: [
        ("speech", "speech"),
        ("no speech", "no speech"),
        ("There is no speech in the clip.", "no speech"),
        ("not no speech", "none negated"),
        ("The clip contains speech.", "speech"),
        ("No-speech", "no speech"),
        ("speechless", "none absent"),
    ],
    DAILY: [
        ("no_emotion", "no_emotion"),
        ("No emotion.", "no_emotion"),
        ("The utterance conveys no emotion.", "no_emotion"),
        ("happy", "happiness"),
        ("fearful", "fear"),
        ("disgusted", "disgust"),
        ("no fear", "none negated"),
        ("not surprised", "none negated"),
    ],
    SOUNDS: [
        ("drinking or sipping", "drinking or sipping"),
        ("The sound of a door or wood knock.", "door or wood knock"),
        ("drinking", "none absent"),
        ("sea waves and rain", "several"),
    ],
    COUNTS: [
        ("2", "two"),
        ("There are two speakers.", "two"),
        ("There are 3 speakers", "three"),
        ("Two speakers, one of them a woman.", "two"),
        ("more than one", "none negated"),
        ("at least two", "none negated"),
        ("no one", "none absent"),
        ("12", "none absent"),
        ("2.5", "none absent"),
        ("one or two", "several"),
        ("This one has four speakers.", "four"),
    ],
    SNR: [
        ("5", "five"),
        ("15 dB", "fifteen"),
        ("The SNR is 10 dB.", "ten"),
        ("0", "zero"),
        ("clean", "clean"),
    ],
    AGES: [
        ("teenager", "teenager (<20)"),
        ("young adult (20-40)", "young adult (20-40)"),
        ("A young adult.", "young adult (20-40)"),
        ("middle aged adult", "middle-aged adult (40-60)"),
        ("adult", "none absent"),
    ],
    DIALOGUE: [
        ("question", "question"),
        ("This is a question.", "question"),
        ("To answer your question, it is a directive.", "directive"),
        ("The question asks for the act: inform.", "inform"),
    ],
    TRUTH: [
        ("true", "True"),
        ("False.", "False"),
        ("That is not true.", "none negated"),
        ("True or False", "none echo"),
    ],
    KEYS: [
        ("C major", "C major"),
        ("C# major", "C# major"),
        ("C♯ major", "C# major"),
        ("The key is A minor.", "A minor"),
        ("a minor", "A minor"),
        ("a", "none absent"),
    ],
    DISTANCES: [
        ("0.4m", "0.4m"),
        ("0.4 m", "0.4m"),
        ("2m", "2.0m"),
        ("about 4 m away", "4.0m"),
        ("0.4", "none absent"),
        ("10.4m", "none absent"),
    ],
    GUITARS: [
        ("acoustic guitar", "acoustic guitar"),
        ("guitars", "guitar"),
        ("an acoustic guitar and drums", "several"),
    ],
    CHINESE: [
        ("开心", "开心"),
        ("说话人很开心。", "开心"),
        ("不开心", "none negated"),
        ("说话人不是很开心", "none negated"),
        ("开心或悲伤", "several"),
        ("开心、悲伤、愤怒", "none echo"),
        ("答案是悲伤", "悲伤"),
        ("我不知道", "none refusal"),
    ],
    EMOJI: [
        ("😀", "😀"),
        ("I feel 😢 here", "😢"),
        ("😀😡", "several"),
        ("👀", "none absent"),
    ],
    LETTERED: [
        ("B", "(B) sad"),
        ("b", "(B) sad"),
        ("(B)", "(B) sad"),
        ("B.", "(B) sad"),
        ("B) sad", "(B) sad"),
        ("B. sad", "(B) sad"),
        ("Option B", "(B) sad"),
        ("option b", "(B) sad"),
        ("The answer is B.", "(B) sad"),
        ("The answer is (B) sad", "(B) sad"),
        ("Answer: B because it is slow", "(B) sad"),
        ("I choose C.", "(C) angry"),
        ("sad", "(B) sad"),
        ("(B) happy", "several"),
        ("A or B", "several"),
        ("A speaker talks.", "none absent"),
        ("A", "(A) happy"),
        ("D", "none absent"),
        ("not B", "none negated"),
        ("(A) happy (B) sad (C) angry", "none echo"),
        ("A. happy\nB. sad\nC. angry", "none echo"),
        ("A. happy\nB. sad\nC. angry\nAnswer: C", "(C) angry"),
    ],
    PHONES: [("pʰ", "pʰ"), ("p", "p"), ("t̪", "t̪"), ("[t]", "t")],
    CLEAN: [
        ("clean", "clean"),
        ("The speech is clean, with no noise.", "clean"),
        ("not clean", "none negated"),
        ("It isn't noisy, it's clean.", "clean"),
        ("There is no background noise and the speech is clean.", "clean"),
    ],
}  # fmt: skip
ROWS = [(options, *row) for options, rows in CASES.items() for row in rows]


def _short(parsed: Parsed) -> str:
    if parsed.outcome == "matched":
        return " & ".join(parsed.labels)
    return "several" if parsed.outcome == "several" else f"none {parsed.reason}"


def test_the_table_is_long_enough():
    assert len(ROWS) >= 250


@pytest.mark.parametrize(("options", "response", "expected"), ROWS)
def test_an_answer_is_read_as(options, response, expected):
    assert _short(parsing.parse_answer(response, options)) == expected


def test_none_is_no_answer():
    assert parsing.parse_answer(None, EMOTIONS) == Parsed("none", (), "empty")


def test_without_options_nothing_is_read():
    assert parsing.parse_answer("happy", ()) == Parsed("none", (), "no_options")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("happy", "happy"),
        ("joy", "happy"),
        ("The speaker is joyous and cheerful", "happy"),
        ("blue", "none absent"),
        ("content", "none absent"),  # declared for two options
    ],
)
def test_declared_synonyms_name_their_option(response, expected):
    synonyms = (
        ("happy", ("joy", "joyous", "cheerful", "content")),
        ("neutral", ("content",)),
        ("unknown label", ("blue",)),
    )
    assert _short(parsing.parse_answer(response, EMOTIONS, synonyms)) == expected


def test_a_synonym_that_is_an_option_stays_that_option():
    synonyms = (("happy", ("sad",)),)
    assert parsing.parse_answer("sad", EMOTIONS, synonyms).labels == ("sad",)


def test_a_form_that_is_an_option_stays_that_option():
    options = ("happy", "happiness")
    assert parsing.parse_answer("happiness", options).labels == ("happiness",)
    assert parsing.parse_answer("happily", options).outcome == "none"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("happy", "happy"),
        ("happy, angry", "happy & angry"),
        ("happy and angry", "happy & angry"),
        ("happy, angry, not sad", "happy & angry"),
        ("happy or angry", "several"),
        ("happy\nangry", "happy & angry"),
        ("Answer: happy, angry", "happy & angry"),
        ("happy, sad, angry, neutral", "none echo"),
        ("none of them", "none absent"),
    ],
)
def test_several_labels_are_read_where_they_are_asked_for(response, expected):
    parsed = parsing.parse_answer(response, EMOTIONS, multi_label=True)
    assert _short(parsed) == expected


INSTRUCTION = "Which emotion do you hear? Options: (A) happy, (B) sad, (C) angry."


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("C", "angry"),
        ("(c) angry", "angry"),
        (INSTRUCTION, "none echo"),
        (f"{INSTRUCTION} sad", "sad"),
        (f"{INSTRUCTION.lower()}\nAnswer: B", "sad"),
    ],
)
def test_letters_and_repeats_of_the_question_are_known(response, expected):
    options = ("happy", "sad", "angry")
    parsed = parsing.parse_answer(response, options, instruction=INSTRUCTION)
    assert _short(parsed) == expected


def test_letters_follow_the_question_and_not_the_order_of_the_labels():
    parsed = parsing.parse_answer(
        "C", ("angry", "happy", "sad"), instruction=INSTRUCTION
    )
    assert parsed.labels == ("angry",)


def test_letters_of_other_options_do_not_count():
    parsed = parsing.parse_answer("C", EMOTIONS, instruction=INSTRUCTION)
    assert parsed.outcome == "none"


@pytest.mark.parametrize(
    ("parsed", "reference", "outcome"),
    [
        (Parsed("matched", ("happy",)), ("happy",), "matched"),
        (Parsed("matched", ("happy",)), ("Happy",), "matched"),
        (Parsed("matched", ("no_emotion",)), ("no emotion",), "matched"),
        (Parsed("matched", ("sad",)), ("happy",), "other_option"),
        (Parsed("several", ("sad", "happy")), ("happy",), "several"),
        (Parsed("several", ("sad", "happy")), ("happy", "sad"), "several"),
        (Parsed("none"), ("happy",), "none"),
        (Parsed("matched", ("happy",)), (), "none"),
        (Parsed("matched", ("a", "b")), ("b", "a"), "matched"),
        (Parsed("matched", ("a", "b", "c")), ("b", "a"), "several"),
        (Parsed("matched", ("a",)), ("b", "a"), "other_option"),
        (Parsed("matched", ("a", "c")), ("b", "a"), "other_option"),
    ],
)
def test_a_reading_is_compared_with_the_reference(parsed, reference, outcome):
    assert parsing.judge_parsed(parsed, reference) == outcome


@pytest.mark.parametrize(
    ("references", "multi_label", "expected"),
    [
        (("happy",), False, ("happy",)),
        (("Happiness",), False, ("happy",)),
        (("drums",), False, ()),
        (("happy", "sad"), True, ("happy", "sad")),
        (("happy, sad",), True, ("happy", "sad")),
        (("['happy', 'sad', 'happy']",), True, ("happy", "sad")),
        (("happy, drums",), True, ()),
        ((), True, ()),
    ],
)
def test_references_come_in_several_forms(references, multi_label, expected):
    found = parsing.reference_labels(references, EMOTIONS, (), multi_label)
    assert found == expected


def test_a_reference_may_be_a_letter():
    found = parsing.reference_labels(
        ("B",), ("happy", "sad", "angry"), instruction=INSTRUCTION
    )
    assert found == ("sad",)


def _example(instruction, *references):
    return Example("1", "I", instruction, references)


def test_an_example_is_read_with_the_options_of_its_instruction():
    task = Task("T", "classification", "llm_classification")
    example = _example("Choose from happy, sad or angry.", "sad")
    answer = parsing.read_answer("It is sad.", task, example)
    assert (answer.outcome, answer.reference) == ("matched", ("sad",))
    assert parsing.read_answer("happy", task, example).outcome == "other_option"


def test_an_example_without_options_or_with_a_strange_reference_is_undecided():
    task = Task("T", "classification", "llm_classification")
    assert parsing.read_answer("sad", task, _example("Hm?", "sad")) == (
        Parsed("none", (), "no_options"),
        "none",
        (),
    )
    strange = parsing.read_answer("sad", task, _example("Answer yes or no.", "sad"))
    assert (strange.outcome, strange.reference) == ("none", ())


# A mix as large audio-language models write it, for the rate of unread answers.
REALISTIC = {
    EMOTIONS: [
        ("happy", "happy"), ("Sad", "sad"), ("neutral.", "neutral"),
        ("Angry.", "angry"),
        ("The emotion is sad.", "sad"), ("The speaker sounds angry.", "angry"),
        ("The emotion of the speaker is happy.", "happy"),
        ("The speaker's emotion in the audio is neutral.", "neutral"),
        ("Based on the tone, the speaker appears to be sad.", "sad"),
        ("The speaker is expressing happiness.", "happy"),
        ("The speaker is angry and frustrated.", "angry"),
        ("He is speaking in a neutral tone.", "neutral"),
        ("The audio conveys a feeling of sadness.", "sad"),
        ("The answer is angry.", "angry"), ("Emotion: happy", "happy"),
        ("The speaker sounds excited, so the label is happy.", "happy"),
        ("She seems upset.", None), ("The speaker sounds calm.", None),
        ("I'm sorry, I can't listen to audio.", None),
        ("The speaker says 'kids are talking by the door' in a happy voice.", "happy"),
        ("neutral, with a slight hint of sadness", "several"),
        ("The person is talking about a door.", None),
        ("The tone is not angry; it is neutral.", "neutral"),
        ("The speaker's emotion is one of anger.", "angry"),
    ],
    YES_NO: [
        ("Yes", "yes"), ("No", "no"), ("yes.", "yes"), ("no, it is not", "no"),
        ("Yes, the two utterances are from the same speaker.", "yes"),
        ("No, the speakers are different.", "no"), ("The answer is yes.", "yes"),
        ("The two recordings are from different speakers.", None),
        ("They are the same.", None), ("Yes, there is speech in the audio.", "yes"),
        ("No. The audio contains only music.", "no"), ("The answer is 'no'", "no"),
        ("I believe the answer is: yes", "yes"), ("Answer: No", "no"),
        ("There is no speech in this audio.", None), ("Yes it is.", "yes"),
    ],
    LETTERED: [
        ("A", "(A) happy"), ("(B) sad", "(B) sad"), ("C. angry", "(C) angry"),
        ("The correct answer is (C).", "(C) angry"), ("B) sad", "(B) sad"),
        ("sad", "(B) sad"), ("Option A.", "(A) happy"),
        ("The answer is A because the pitch is high.", "(A) happy"),
    ],
    CLEAN: [
        ("noisy", "noisy"), ("The audio is clean.", "clean"), ("Clean speech", "clean"),
        ("The speech is noisy.", "noisy"), ("There is background noise.", None),
        ("It is a clean recording.", "clean"), ("noisy, there is music", "noisy"),
    ],
}  # fmt: skip


def test_on_a_realistic_mix_nothing_is_read_wrongly_and_most_is_read():
    rows = [(o, *row) for o, found in REALISTIC.items() for row in found]
    counts = collections.Counter()
    for options, response, expected in rows:
        parsed = parsing.parse_answer(response, options)
        counts[parsed.outcome] += 1
        read = _short(parsed) if parsed.outcome != "none" else None
        assert read in (expected, None), response
        assert (read is None) == (expected is None), response
    assert counts["none"] / len(rows) < 0.2


PIECES = (
    *("happy", "sad", "not", "no", "yes", "or", "and", ",", ".", "?", "!", "\n", "if"),
    *("Answer:", "(", ")", "A", "B", '"', "'", "**", "<think>", "</think>", "<answer>"),
    *("\\boxed{", "{", "}", "the", "is", "isn't", "option", "-", "/", "~~", "sorry"),
)
ANSWERS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(PIECES),
        max_size=40,
    ).map(" ".join),
)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.sampled_from(list(CASES)), st.booleans())
def test_no_answer_breaks_the_reader_or_names_what_is_no_option(
    response, options, multi_label
):
    parsed = parsing.parse_answer(response, options, (), multi_label, INSTRUCTION)
    assert set(parsed.labels) <= set(options)
    if parsed.outcome == "matched":
        assert parsed.labels
        assert multi_label or len(parsed.labels) == 1
    assert (parsed.outcome == "none") == (not parsed.labels)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=30), max_size=6),
    st.text(max_size=80),
    st.text(max_size=80),
)
def test_no_options_and_no_instruction_break_the_reader(options, response, text):
    parsed = parsing.parse_answer(response, tuple(options), (), False, text)
    assert set(parsed.labels) <= set(options)
    parsing.reference_labels((response, text), tuple(options), (), True, text)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(EMOTIONS), st.sampled_from(["{}", " {}. ", "**{}**", '"{}"']))
def test_an_option_alone_is_always_that_option(option, frame):
    assert parsing.parse_answer(frame.format(option), EMOTIONS).labels == (option,)


@pytest.mark.parametrize(
    "text",
    [
        "happy " * 200_000,
        "a" * 1_000_000,
        "(" * 500_000,
        "'" * 19_000,
        "\u0301" * 19_999,
        "<think>" * 2_800,
        "\\boxed{" * 2_800,
        "answer: " * 2_400,
        "not " * 4_900,
        "happy, " * 2_800,
        "i am sorry " * 1_800,
        "\n" * 19_000,
        '"happy ' * 2_800,
        "happy x " * 2_400,
        "happy if " * 2_200,
        "q:\n" * 6_600,
    ],
)
def test_runaway_text_is_bounded(text):
    begin = time.process_time()
    parsed = parsing.parse_answer(text, EMOTIONS, instruction=INSTRUCTION)
    assert time.process_time() - begin < 5.0
    assert parsed.outcome in ("none", "matched")


@pytest.mark.parametrize(
    ("options", "piece"),
    [
        (YES_NO, "no. "),
        (YES_NO, "yes no "),
        (COUNTS, "1:"),
        (COUNTS, "1"),
        (COUNTS, "one or more "),
        (COUNTS, "one hundred and "),
    ],
)
def test_the_time_of_a_reading_does_not_grow_with_its_square(options, piece):
    begin = time.process_time()
    parsing.parse_answer((piece * 19_900)[:19_900], options)
    assert time.process_time() - begin < 5.0


def test_a_runaway_is_read_by_its_final_answer_alone():
    noise = "la " * 10_000
    assert parsing.parse_answer(noise + "happy", EMOTIONS).reason == "runaway"
    final = parsing.parse_answer(noise + "\nFinal answer: sad", EMOTIONS)
    assert final == Parsed("matched", ("sad",), "final")


def test_an_examples_own_options_come_first():
    task = Task("T", "classification", "llm_classification", labels=("cat", "dog"))
    example = Example(
        "a",
        "T",
        "Choose from red or blue.",
        ("owl",),
        extra={"options": ["owl", "fox"]},
    )
    for said, outcome in (("An owl.", "matched"), ("A fox.", "other_option")):
        assert parsing.read_answer(said, task, example).outcome == outcome
    assert parsing.read_answer("A cat.", task, example).outcome == "none"
