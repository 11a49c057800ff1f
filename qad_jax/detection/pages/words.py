"""All texts of the pages, in one place so that they can be translated.

Fields in braces are filled by `str.format`. A page says no more than was measured: it tells what
the detector calls a file, and not what the file is.
"""

from __future__ import annotations

# What the detector says of a file: a title, and what follows from it.
TITLES = {
    "real": "The detector calls this file real",
    "fake": "The detector calls this file fake",
    "inconclusive": "The detector cannot tell",
    "no_face": "No face was found",
    "error": "The file could not be judged",
}
MEANINGS = {
    "real": (
        "The mean score of each judged face is lower than that of nearly all fakes of this quality "
        "that the detector was measured on. This does not show that the file is genuine: a fake "
        "of a kind that was not measured can get this answer, too."
    ),
    "fake": (
        "The mean score of a face is higher than that of nearly all real clips of this quality "
        "that the detector was measured on. This is a reason to look closer. It is not a proof: a "
        "filter, unusual light or a bad camera can lead to this answer, too."
    ),
    "inconclusive": "Nothing follows from this answer: the file may be real, and it may be fake.",
    "no_face": (
        "The detector judges faces only, so there is nothing to judge. This says nothing about "
        "whether the file was manipulated."
    ),
    "error": "Nothing is said about what the file shows.",
}
SHORT = {
    "real": "called real",
    "fake": "called fake",
    "inconclusive": "cannot tell",
    "no_face": "no face",
    "error": "not judged",
}
REASON = "Reason: {reason}."
PROBABILITY = (
    "Probability of fake: {probability:.2f}. This number holds where half of the clips are fakes. "
    "Where fakes are rarer, a clip with the same score is more often real."
)

# How often it is wrong.
RATES = "How often the detector is wrong"
CALLED_FAKE = "Of 1000 real clips of this quality {count} are called fake{interval}."
CALLED_REAL = "Of 1000 fakes of this quality {count} are called real{interval}."
CANNOT_TELL = (
    "Of 1000 real clips of this quality the detector cannot tell for {real}, and of 1000 fakes for "
    "{fake}."
)
NONE_CALLED_FAKE = (
    "None of the {clips} real clips of this quality that were measured was called fake. The true "
    "rate can still be up to {most} of 1000 (95 % interval over people)."
)
NONE_CALLED_REAL = (
    "None of the {clips} fakes of this quality that were measured was called real. The true "
    "rate can still be up to {most} of 1000 (95 % interval over people)."
)
CALLED_FAKE_UNKNOWN = "How often real clips of this quality are called fake was not measured."
CALLED_REAL_UNKNOWN = "How often fakes of this quality are called real was not measured."
ABOUT, FEWER = "about {count:.0f}", "fewer than {most}"
INTERVAL = " (95 % interval: {low:.0f} to {high:.0f})"
RARE = (
    "Where fakes are rare, most of what is called fake can be real. An example: 1 of 100 clips is "
    "a fake. At these rates about {right:.0f} of 100 clips that are called fake are fakes, "
    "and {wrong:.0f} are real."
)
SEVERAL = (
    "These rates were measured on clips of which one face was judged. Here {faces} faces were "
    "judged. The fewer of them look fake, the higher is the score that each needs to be called "
    "fake; only where all do is it that of one face."
)

# Faces.
FACES = "Faces"
FACE = "Face {number}: {verdict}"
DECIDES = "This face decides the answer for the file."
NOT_JUDGED = "This face was not judged."
MEAN = "Mean score of {frames}: {mean:.2f}."
PROBABILITY_OF_FACE = "Probability of fake, where half of the clips are fakes: {probability:.2f}."
MORE_FACES = "The most suspicious faces are shown. {count} more are listed in the JSON data."
SCORE_IS = (
    "A score is the probability of fake as the network gives it for one frame, before calibration. "
    "The mean over the frames of a face is compared with two thresholds."
)
UPPER = "A mean above {upper:.3f} is called fake."
NO_UPPER = "No face is called fake: too few clips were measured to choose a threshold for that."
SATURATED = "No face is called fake: real clips that were measured have the highest score, too."
LOWER = "A mean below {lower:.3f} is called real."
NO_LOWER = "No face is called real: too few clips were measured to choose a threshold for that."
BETWEEN = "For a mean between these two the detector cannot tell."
SCORES = "Scores over time"
SCORES_OF_IMAGE = "Score"
LEGEND = (
    "Each mark is the score of a frame: a disc above the band, a ring in it, a square below it. "
    "The hatched band is where the detector cannot tell. The dashed line is the mean."
)
LEGEND_NOT_JUDGED = (
    "Each mark is the score of a frame. The dashed line is the mean. There is no band, because the "
    "face was not judged."
)
WALK = "Frames of face {number}"
WALK_HINT = (
    "Point at the drawing, or go through the frames with the arrow keys, to see one of them."
)
WALK_FRAME = "frame {frame}{time}, score {score:.3f}{place}"
TIMELINE = "Scores of {frames}: lowest {low:.2f}, highest {high:.2f}, mean {mean:.2f}. {band}"
BAND = "The detector cannot tell between {lower:.3f} and {upper:.3f}."
TABLE = "All scores as a table"
TABLE_OF = "Track {track} in the JSON data"
THINNED = "{shown} of {frames} frames are shown, evenly chosen; the JSON data have all."
COLUMNS = ("frame", "time in s", "score", "place")
PLACES = {"fake": "above the band", "inconclusive": "in the band", "real": "below the band"}
CROPS = "Crops of the face"
SUSPICIOUS = "Highest scores"
UNSUSPICIOUS = "Lowest scores"
CROP = "Crop of the face in frame {frame}"
CROP_OF = "frame {frame}{time}, score {score:.2f}"
AT = ", {time:.2f} s"
HEAT = "What the score depends on"
HEAT_ALT = "The crop of frame {frame}, bright where its score depends on it"
HEAT_NOTE = (
    "The map shows what the network looked at. It does not show what was forged. It belongs to the "
    "crop of frame {frame}. Each place was covered with a grey patch in turn, and the crop was "
    "scored anew. The brighter a place, the lower the score becomes when it is covered. Covering "
    "the place that counts most changes the score from {score:.2f} to {covered:.2f}."
)
CHANGED = "Where the face looks changed"
CHANGED_ALT = "The crop of frame {frame}, bright where it looks changed"
CHANGED_NOTE = (
    "In training, the detector learned to mark what was changed in a face. This is its mark on the "
    "crop of frame {frame}: the brighter a place, the more of it looks changed. The score was made "
    "without it. A mark is no proof that a place was forged."
)
MARKS = (
    "In fakes like those that it was measured on, and at this quality, {right:.0f} of 100 places "
    "that it marks were changed, and it marks {found:.0f} of 100 places that were. In {false:.0f} "
    "of 100 real images it marks something, too."
)
NO_MARK = "No place of the crop of frame {frame} looks changed in its larger part."
NO_HEAT = (
    "No map is shown: whatever place of the crop of frame {frame} is covered with a grey patch, "
    "its score of {score:.2f} hardly becomes lower."
)

# The file.
MEDIA = "The file"
FACTS = {
    "file": "Name as given",
    "sha256": "SHA-256",
    "kind": "Kind",
    "container": "Container",
    "codec": "Codec",
    "size": "Size of a frame",
    "frames": "Frames",
    "duration": "Duration",
    "rate": "Frame rate",
    "bit_rate": "Bit rate of the whole file",
    "compression": "Estimated compression",
    "quality": "Nearest measured quality",
    "before": "Encoded before",
    "notes": "Notes",
}
PIXELS = "{width} x {height} pixels"
SECONDS = "{duration:.2f} s"
PER_SECOND = "{rate:g} frames per second"
BITS = "{kilobits:,.0f} kbit/s"
COMPRESSION = "as H.264 at CRF {crf:.0f} (interval: {low:.0f} to {high:.0f}), from {reason}"
LIKE = "{quality} (H.264 at CRF {crf})"
BEFORE = {
    True: "suspected: the pixels have lost more than the last encoding explains",
    False: "no sign of it; an earlier encoding that lost less leaves none",
    None: "cannot be told",
}
UNKNOWN = "not known"

# Content credentials.
CREDENTIALS = "Content credentials (C2PA)"
CREDENTIALS_NOTE = (
    "This is what the file says of itself. It takes no part in the answer above. That a file has "
    "no content credentials means nothing: most files have none, and most sites remove them."
)
CREDENTIALS_FACTS = {
    "issuer": "Signed in the name of",
    "signer": "Name in the certificate",
    "time": "Time of the signature",
    "tool": "Made with",
    "generative_ai": "Generative AI",
    "actions": "What was done",
    "problems": "Problems",
}
GENERATIVE_AI_SAID = "they say that {said}"
GENERATIVE_AI_UNSAID = "they say nothing of it"

# The detector, and what holds.
CONDITIONS = "What an answer is worth"
MEASURED = (
    "The error rates were measured on {clips} clips of {people} people whom neither training nor "
    "the choice of thresholds saw."
)
MEASURED_FRAMES = (
    "Each of these clips is one frame. How the mean over many frames of a video does was not "
    "measured."
)
MEASURED_UNKNOWN = "The model file does not say on how many clips the error rates were measured."
METHODS = (
    "The fakes that were measured are of these kinds: {methods}. How often others are missed was "
    "not measured."
)
METHODS_UNKNOWN = "The model file does not say which kinds of fakes were measured."
SIZES = "Faces below {smallest:.0f} pixels in the file are not judged."
MOST_COMPRESSION = (
    "Nor are faces in files that are compressed more than by CRF {most:.0f} of H.264."
)
BLUR = "Nor are faces that are blurred more than nearly all that were measured."
TURN = "Nor are faces that are turned farther to the side than nearly all that were measured."
TILT = "Nor are faces that are tilted in the picture by more than {most:.0f} degrees."
QUALITIES = "Error rates were measured at these qualities: {qualities}. The nearest one is used."
CONDITIONS_ALWAYS = (
    "The answer is about images of faces. It is not about the person who is shown, nor about who "
    "made the file, nor why. It is no evidence against anybody.",
    "Sound was not looked at, nor were images that were generated as a whole.",
    "Nothing was measured on files that were made to deceive this detector.",
)
MODEL = "The detector"
MODEL_FACTS = {"name": "Name", "version": "Version", "sha256": "SHA-256 of the model file"}
NETWORK = "Network"
VERSIONS = "Versions of the software"
COMMAND = "Command that writes this page"
BACK = "All files of this run"

# The page over all files.
OVERVIEW = "Verdicts on {files}"
ALL_COMMAND = "Command"
COUNTS = "How many files got each answer"
FILES = "All files"
ALL_COLUMNS = ("file", "answer", "probability of fake", "quality", "faces", "reason")
SORTABLE = "A button in the head of a column sorts the table by it."
ANSWERS = (
    "An answer is about images, not about persons. Each file has a page, which says how often its "
    "answer is wrong. Where fakes are rare, most of what is called fake can be real."
)


def counted(count: int, one: str) -> str:
    """A number with its noun, such as '1 frame' and '2 frames'."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
