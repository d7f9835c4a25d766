"""Answers to released tasks, with the labels and synonyms that the registry declares.

What a person would read at once is read; where a person would hesitate, nothing is.
"""

import pytest

from benchmark import parsing, tasks

REGISTRY = tasks.load_tasks()

# Task, or options that an instruction would give -> answer -> labels, or why not.
CASES = {
    "SuperbER_RAVDESS": {
        "Everything points away from happy": "none negated",
        "Neutral is excluded. Calm is excluded. Sad remains.": "sad",
        "It would be happy were it not for the sad tone": "none negated",
        "happy would be the wrong answer": "none negated",
        "happy - wrong": "none negated",
        "happy ❌ sad ✅": "sad",
        "I refuse to say sad": "none negated",
        "stop being sad": "none negated",
        "The speaker used to be happy": "none negated",
        "ex-happy": "none negated",
        "semi-happy": "none negated",
        "pseudo-happy": "none negated",
        "so-called happy": "none negated",
        "0% happy": "none negated",
        "happy=0": "none negated",
        "happy: 0, sad: 1": "sad",
        "I can't say it's happy.": "none refusal",
        "I can't say it's happy, but it could be sad.": "sad",
        "Happy? No, sad.": "sad",
        "**Answer**: Happy": "happy",
        '{"reasoning": "The speaker sounds sad at first", "answer": "happy"}': "happy",
        "Answer: <happy>": "happy",
        "<happy>": "happy",
        "final answer - happy": "happy",
        "The emotion is happy, not sad.": "happy",
        "It's hard to tell but I would go with happy": "happy",
        "I can't determine the emotion with certainty, but it seems happy.": "happy",
        "The speaker sounds scared.": "fearful",
        "I'm afraid it's sad": "sad",
        "I'm afraid this is a happy voice.": "happy",
        "I am happy to help! Please send the audio.": "none refusal",
        "I'd be happy to help! The emotion is sad.": "sad",
        "I'm happy to help. The speaker sounds angry.": "angry",
        "Happy to help! It's sad.": "sad",
        "Sorry, I can't process audio.": "none refusal",
        "Sadly, the speaker is angry.": "angry",
        "1. neutral\n2. calm\n3. happy\n4. sad\n5. angry\n6. fearful\n7. disgust\n"
        "8. surprised": "none echo",
        "happy (sad is unlikely)": "happy",
        "happy > sad": "several",
        "I don't think it's sad, I think it's calm": "calm",
        "I doubt that it's happy.": "none negated",
        "I doubt it's happy; sad": "sad",
        "It would be wrong to say happy.": "none negated",
        "It's wrong to call it happy": "none negated",
        "Few would call it happy.": "none negated",
        "Nobody would call this happy": "none negated",
        "It fails to sound happy": "none negated",
        "pretending to be happy, actually sad": "several",
        "Happy is out of the question.": "none negated",
        "Happy doesn't fit; sad does.": "sad",
        "happy is unlikely, sad is more likely": "sad",
        "happy\nhappy\nhappy": "happy",
        "Label - happy": "happy",
        "[happy]": "happy",
        "hap py": "none absent",
        "everything but happy": "none negated",
        "can't be anything but sad": "none negated",
        "nothing if not happy": "happy",
        "The speaker says I'm so sad but sounds happy.": "none ignored",
        "It's angry, which is not calm.": "angry",
        "It could be sad if the pitch were lower.": "none ignored",
        "Unless I'm mistaken, it's happy.": "happy",
        "If I'm not mistaken, happy": "happy",
        "If I have to choose one, it's happy.": "happy",
        "If forced to choose: happy": "happy",
        "I don't know, happy?": "none refusal",
        "No idea. happy maybe": "none refusal",
        "It's not difficult to hear that the speaker is happy": "none negated",
        "no other than sad": "sad",
        "No worries, it's happy": "happy",
        "Not sure why, but happy": "happy",
        "Thought: sad\nAnswer: angry": "angry",
        "mostly happy": "happy",
        "Between happy and sad, I'd say sad.": "sad",
        "less sad than angry": "none negated",
        "There's zero happiness": "none negated",
        "devoid of happiness": "none negated",
        "absent any happiness": "none negated",
        "little happiness": "none negated",
        "minimal sadness": "none negated",
        "barely angry": "none negated",
        "refuses to be happy": "none negated",
        "avoid happy": "none negated",
        "I disagree that it's happy": "none negated",
        "It is false that the speaker is happy": "none negated",
        "It's untrue that he is happy.": "none negated",
        "It's unlikely that she's happy": "none negated",
        "unlikely to be happy": "none negated",
        "It is incorrect to say the speaker is happy": "none negated",
        "nowhere near happy": "none negated",
        "Happy - not sad.": "happy",
    },
    "SpeakerVerification_VCTK": {
        "No, yes is wrong": "none ambiguous",
        "Yes would be wrong.": "none negated",
        "I'd say yes if the pitch matched.": "none ignored",
        "there is no, yes": "yes",
        "False.": "no",
        "I say no.": "no",
        "No: one is male": "no",
        "It is not true that they are the same.": "none absent",
        "true, not false": "yes",
        "Yes and no": "none echo",
        "Maybe yes": "yes",
        "Possibly no": "no",
        "No difference, so yes": "yes",
        "No no, yes": "several",
        "The answer is not yes.": "none negated",
        "Conclusion: no.": "no",
        "{\"yes\": true, \"no\": false}": "several",
        "Hence no.": "no",
        "therefore no": "no",
        "nope": "no",
        "Yes, I can hear that.": "yes",
        "No, it is not possible that they are the same.": "no",
        "No, it is not clear that they are the same.": "no",
        "I have no idea": "none refusal",
        "Answer yes or no: yes": "yes",
        "Answer (yes/no): no": "no",
        "I'm leaning towards no": "no",
        "I lean no": "no",
        "a clear no": "no",
        "a definite yes": "yes",
        "Hard no.": "no",
        "No speech is detected.": "none absent",
    },
    "SarcasmDetection_Mustard": {
        "True, the speaker is sarcastic, no doubt.": "True",
        "It's not true, so False": "False",
        "It is not false that": "none absent",
    },
    "NoiseDetection_LJSpeech_MUSAN-Noise": {
        "There is nothing noisy about it: clean": "clean",
        "It's clean, free of noise": "clean",
        "Clean or noisy? Noisy.": "noisy",
        "noise": "none absent",
    },
    "ReverberationDetection_LJSpeech_RirsNoises-LargeRoom": {
        "The audio is not reverberant": "none negated",
    },
    "NoiseSNRLevelPrediction_VCTK_MUSAN-Noise": {
        "around -10 dB": "none absent",
        "It is clean, so SNR is above 15 dB": "clean",
        "10 dB or higher": "none negated",
        "-10 dB": "none absent",
        "minus ten": "none absent",
        "-5": "none absent",
        "\u22125 dB": "none absent",
        "5 to 10": "several",
        "above 10": "none negated",
        "below 5": "none negated",
        ">15": "none negated",
        "> 15 dB": "none negated",
        "<5": "none negated",
        "around fifteen": "fifteen",
        "15%": "none absent",
        "SNR=15dB": "fifteen",
        "10:1": "none absent",
        "approximately 10dB SNR": "ten",
        "Zero noise, clean": "clean",
        "zero noise": "none absent",
        "10 dB at 5 kHz": "ten",
        "The audio lasts 5 seconds and its SNR is 10 dB": "ten",
        "5 seconds": "none absent",
        "ten out of ten": "none absent",
    },
    "SpeakerCounting_LibriTTS-TestClean": {
        "a minimum of two": "none negated",
        "two men and a woman": "none absent",
        "one man, one woman": "none absent",
        "5 minutes": "none absent",
        "two thirds": "none absent",
        "one half": "none absent",
        "Speaker count: 4/5": "four",
        "one thousand": "none absent",
        "1e1": "none absent",
        "$2": "none absent",
        "2x": "none absent",
        "There are two speakers: one male and one female": "two",
        "two (one male, one female)": "two",
        "2 speakers, 1 male and 1 female": "two",
        "3-4": "several",
        "2+": "none negated",
        "only one": "one",
        "Only one speaker": "one",
        "just one": "one",
        "twenty two": "none absent",
        "twenty-two": "none absent",
        "two hundred": "none absent",
        "two and a half": "none absent",
        "The clip is 5 seconds long with 2 speakers.": "two",
        "Answer: 2 (one man and one woman)": "two",
        "The answer is two: one man and one woman.": "two",
        "one more than two": "none negated",
        "2nd": "none absent",
        "1st": "none absent",
        "two-three": "none absent",
        "2 or more": "none negated",
        "two or more": "none negated",
        "three at most": "none negated",
        "-2": "none absent",
        "one by one": "none absent",
        "٢": "two",
        "2 2 2": "none absent",
    },
    "SpoofDetection_ASVspoof2015": {
        "not real": "none negated",
        "real-time audio": "none absent",
        "in real life": "none absent",
        "unspoofed": "none absent",
        "unlikely authentic": "none negated",
    },
    "AgeClassification_CommonVoiceCorpus-Test": {
        "20-40": "young adult (20-40)",
        "Young adult (20-40)": "young adult (20-40)",
        "teenager (<20), young adult (20-40), "
        "middle-aged adult (40-60), elderly adult (60-80)": "none echo",
        "between young adult and elderly adult": "several",
        "teenagers": "teenager (<20)",
        "young adult (40-60)": "several",
    },
    "LanguageIdentification_VoxForge": {
        "English": "English",
        "Language: Russian": "Russian",
    },
    "VocalSoundRecognition_VocalSound": {
        "laughter": "laughter",
        "sniffle": "none absent",
    },
    "AccentClassification_AccentdbExtended": {
        "The accent is British.": "british",
    },
    "VoiceDisorderClassification_VOICED": {
        "healthy": "healthy",
        "reflux laryngitis": "reflux laryngitis",
        "hyperkinetic or hypokinetic dysphonia": "several",
    },
    "DialogueActClassification_DailyTalk": {
        "The question is a directive.": "directive",
        "The act in question is inform.": "inform",
        "It's out of question, inform": "inform",
        "I'm sorry to inform you that it's a question": "question",
        "Good question! It's inform.": "inform",
    },
    "SpeechSentimentAnalysis_MELD": {
        "The sentiment is negative.": "negative",
        "I'm positive it's negative": "negative",
        "slightly negative": "negative",
        "false negative": "none absent",
    },
    "EmotionClassificaitonInSongs_EMOTIFY": {
        "The song evokes nostalgia and sadness": "several",
        "a powerful sadness": "several",
    },
    "ChordClassification_AcousticGuitarAndPiano": {
        "Cmaj7": "none absent",
        "the major third is absent; minor": "minor",
    },
    "BirdSoundDetection_Warblrb10k": {
        "birds not present -> absence": "absence",
        "presence: no": "none negated",
        "presence": "presence",
        "the absence of bird sounds": "absence",
        "The present recording contains birds": "none absent",
        "presence is not detected": "none negated",
    },
    "CatEmotionClassification_CatSoundClassificationDataset-V2": {
        "The cat is fighting": "fighting",
    },
    "EnvironmentalSoundClassification_ESC50-Animals": {
        "crow": "crow",
        "cows": "cow",
    },
    "EnvironmentalSoundClassification_ESC50-ExteriorAndUrbanNoises": {
        "chain saw": "none absent",
    },
    "EnvironmentalSoundClassification_ESC50-HumanAndNonSpeechSounds": {
        "crying baby": "crying baby",
        "breathing": "breathing",
    },
    "EnvironmentalSoundClassification_ESC50-InteriorAndDomesticSounds": {
        "door wood creaks": "door wood creaks",
    },
    "EnvironmentalSoundClassification_ESC50-NaturalSoundscapesAndWaterSounds": {
        "raining": "none absent",
        "rainbow": "none absent",
    },
    ("male", "female"): {
        "non-male": "none negated",
    },
    ("native", "non-native"): {
        "not native": "none negated",
    },
    ("real", "unreal"): {
        "un-real": "none negated",
    },
    ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10"): {
        "7/10": "7",
        "7 out of 10": "7",
        "Score: 7/10": "7",
        "8.5": "none absent",
        "1 0": "none absent",
        "I'd rate it 7 on a scale of 1 to 10": "7",
        "-1": "none absent",
        "Rating: 7": "7",
    },
    ("first", "second"): {
        "The first one sounds better.": "first",
        "The first is worse than the second.": "none ambiguous",
        "The second is better than the first": "second",
        "First, let me listen. The second one.": "several",
    },
    ("same", "different"): {
        "not the same; different": "different",
        "At the same time, different": "different",
    },
    ("fast", "slow", "normal"): {
        "not fast": "none negated",
    },
    ("(A) male", "(B) female", "(C) cannot tell"): {
        "I cannot tell": "(C) cannot tell",
        "(b)": "(B) female",
        "A/B": "several",
        "A is wrong, so B": "(B) female",
        "Choice B.": "(B) female",
        "B is correct": "(B) female",
        "A. male\nB. female\nC. cannot tell\n\nB": "(B) female",
        "A) female": "several",
        "E": "none absent",
    },
    ("English", "Chinese", "Mandarin Chinese", "Old English"): {
        "Mandarin Chinese": "Mandarin Chinese",
    },
    ("-5", "0", "5", "10"): {
        "5": "5",
        "minus 5": "none absent",
        "+5": "5",
        "5 or -5": "several",
        "not 5 but -5": "-5",
    },
    ("1 second", "2 seconds", "3 seconds"): {
        "12 seconds": "none absent",
        "-2 seconds": "none absent",
    },
    ("C", "C#", "D", "A", "A#"): {
        "C sharp": "C#",
        "C♯": "C#",
    },
    ("contains speech", "does not contain speech"): {
        "does not contain speech": "does not contain speech",
    },
    ("rising", "falling", "not sure"): {
        "not sure": "not sure",
        "I'm not sure": "not sure",
    },
}  # fmt: skip
ROWS = [(key, *row) for key, rows in CASES.items() for row in rows.items()]


def short(parsed):
    if parsed.outcome == "matched":
        return " & ".join(parsed.labels)
    return "several" if parsed.outcome == "several" else f"none {parsed.reason}"


@pytest.mark.parametrize(("key", "response", "expected"), ROWS)
def test_an_answer_is_read_as(key, response, expected):
    options, synonyms = key, ()
    if isinstance(key, str):
        options, synonyms = REGISTRY[key].labels, REGISTRY[key].synonyms
    assert short(parsing.parse_answer(response, options, synonyms)) == expected


QUESTION = "What do you hear? Options: (A) neutral (B) calm (C) happy (D) sad (E) angry"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("C", "happy"),
        ("A", "neutral"),
        ("A speaker who is sad", "sad"),
        ("B or C", "several"),
        ("A/B", "several"),
        ("A) sad", "several"),
        ("E is correct", "angry"),
        ("Among the options, (E) fits best", "angry"),
        ("Not (E)", "none negated"),
        ("A. neutral\nB. calm\nC. happy\nD. sad\nE. angry\n\nD", "sad"),
        (QUESTION, "none echo"),
        (f"{QUESTION}\nC", "happy"),
    ],
)
def test_letters_are_read_with_the_question(response, expected):
    options = ("neutral", "calm", "happy", "sad", "angry")
    parsed = parsing.parse_answer(response, options, instruction=QUESTION)
    assert short(parsed) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("guitar, but not piano", "guitar"),
        ("no piano, only guitar", "guitar"),
        ('["guitar", "piano"]', "guitar & piano"),
        ("1. guitar\n2. piano", "guitar & piano"),
        ("guitar, drums and no voice", "guitar & drums"),
        ("guitar; piano; not drums", "guitar & piano"),
        ("guitar or piano", "several"),
        ("acoustic or electric guitar", "several"),
        ("guitar, piano, drums, acoustic guitar, voice, electric guitar", "none echo"),
    ],
)
def test_sets_are_read_where_several_are_asked_for(response, expected):
    options = ("guitar", "piano", "drums", "acoustic guitar", "voice",
               "electric guitar")  # fmt: skip
    parsed = parsing.parse_answer(response, options, multi_label=True)
    assert short(parsed) == expected


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [("Choose from 1, 2 or 3.", "none absent"),
     ("How many seconds of silence are there? Choose from 1, 2 or 3.", "2")],
)  # fmt: skip
def test_a_number_with_a_unit_counts_where_the_question_names_it(instruction, expected):
    parsed = parsing.parse_answer("2 seconds", ("1", "2", "3"), instruction=instruction)
    assert short(parsed) == expected


@pytest.mark.parametrize(
    ("reference", "outcome"), [("+", "matched"), ("-", "other_option")]
)
def test_options_of_marks_alone_differ(reference, outcome):
    parsed = parsing.Parsed("matched", ("+",), "exact")
    assert parsing.judge_parsed(parsed, (reference,)) == outcome


def test_a_spelling_that_two_options_share_names_neither():
    assert short(parsing.parse_answer("C", ("C", "C++"))) == "none absent"
