"""Words: tokens, stems, distances, frequencies; nothing is downloaded."""

from nltk import FreqDist, edit_distance, ngrams
from nltk.stem import PorterStemmer
from nltk.tokenize import RegexpTokenizer, TreebankWordTokenizer

text = "The runners were running; the run wasn't easy."
words = RegexpTokenizer(r"\w+").tokenize(text.lower())
stem = PorterStemmer().stem
all(
    (
        TreebankWordTokenizer().tokenize(text)[-4:] == ["was", "n't", "easy", "."],
        stem("running") == "run",
        FreqDist(words)["the"] == 2,
        edit_distance("kitten", "sitting") == 3,
        len(list(ngrams(words, 2))) == len(words) - 1,
    )
)
