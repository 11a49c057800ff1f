"""What a manifest says is taken from it, shown beside a verdict, and never mixed into it."""

import dataclasses
import json

import cv2
import pytest

from qad_jax.detection import command, manifest_reader
from qad_jax.detection.credentials import Credentials
from qad_jax.detection.detector import Detector
from tests.commands import call
from tests.test_detection import by_colour, filmed, model, tinted
from tests.test_verdict_folder import check
from tests.test_verdict_pages import BAD, examined, page_of


def store(actions, *, label="c2pa.actions", others=(), **more):
    manifests = {
        name: {"assertions": [{"label": label, "data": {"actions": of}}]}
        for name, of in (("own", actions), *others)
    }
    manifests["own"] |= more
    return {"active_manifest": "own", "manifests": manifests, "validation_state": "Valid"}


def action(source, **more):
    at = f"http://cv.iptc.org/newscodes/digitalsourcetype/{source}"
    return {"action": "c2pa.edited", "digitalSourceType": at, **more}


@pytest.mark.parametrize(
    ("sources", "others", "said"),
    [
        (["digitalCapture"], [], None),
        (["trainedAlgorithmicMedia"], [], "made"),
        (["compositeWithTrainedAlgorithmicMedia"], [], "edited"),
        (["compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"], [], "made"),
        (["digitalCapture"], ["compositeWithTrainedAlgorithmicMedia"], "ingredient"),
        (["notTrainedAlgorithmicMedia"], ["algorithmicMedia"], None),
    ],
)
def test_what_is_said_of_generative_ai(sources, others, said):
    held = store([*map(action, sources)], others=[("other", [*map(action, others)])])
    assert manifest_reader.summary(held)["generative_ai"] == said


def test_manifests_of_the_first_version():
    said = manifest_reader.summary(
        store([action("print", softwareAgent="Old 1")], claim_generator="Old/1 c2pa-rs/0.1")
    )
    assert said["tool"] == "Old/1 c2pa-rs/0.1"
    assert said["actions"] == ["c2pa.edited (Old 1)"]


def test_the_texts_of_a_stranger_are_bounded():
    long = "x" * 10**6
    held = store(
        [action("print", softwareAgent={"name": long, "version": long})] * 999,
        claim_generator_info=[{"name": long, "version": long}],
        signature_info={"issuer": long, "common_name": long, "time": long},
    )
    held["validation_results"] = {"activeManifest": {"failure": [{"code": long}, {"code": "b"}]}}
    said = manifest_reader.summary(held)
    assert len(json.dumps(said)) < 6000
    assert len(said["actions"]) == 20
    assert said["failures"] == ["x" * 200, "b"]


@pytest.mark.parametrize("odd", [None, 1, "text", [], {}, [None], {"own": None}, [[[]]]])
def test_manifests_that_are_not_what_they_should_be(odd):
    empty = manifest_reader.summary(odd)
    for held in (
        {"manifests": odd, "active_manifest": "own", "validation_results": odd},
        {"manifests": {"own": odd}, "active_manifest": odd},
        store(odd, claim_generator_info=odd, signature_info=odd),
        {"manifests": {"own": {"assertions": odd}}, "active_manifest": "own"},
    ):
        said = manifest_reader.summary(held)
        assert said.keys() == empty.keys()
        assert not any(said[name] for name in ("issuer", "signer", "time", "generative_ai"))


def test_a_verdict_does_not_depend_on_them(tmp_path, monkeypatch):
    pytest.importorskip("c2pa", reason="the extra c2pa is not installed")
    from tests import signing

    detector = Detector(model(), frames=2)
    detector.__dict__["_score"] = by_colour
    monkeypatch.setattr(Detector, "from_pretrained", lambda model, frames: detector)
    whole, encoded = cv2.imencode(".jpg", tinted(filmed(1))[0][..., ::-1])
    assert whole
    without, held, changed = (tmp_path / f"{name}.jpg" for name in "abc")
    without.write_bytes(encoded.tobytes())
    data = signing.signed(encoded.tobytes(), "image/jpeg", tool="<b>\u202eReal Camera")
    held.write_bytes(data)
    changed.write_bytes(data.replace(b"Camera 7", b"Camera 8"))

    def judged(path):
        verdict = detector(path).as_dict()
        told = verdict["media"].pop("credentials")
        return {**verdict, "file": "", "sha256": ""}, told

    (plain, nothing), (beside, told), (other, broken) = map(judged, (without, held, changed))
    assert plain["verdict"] == "fake"
    assert plain == beside == other
    assert nothing is None
    assert (told["state"], told["generative_ai"]) == ("valid", "made")
    assert told["tool"] == "<b>\\u202eReal Camera 1.2"
    assert broken["state"] in ("altered", "invalid", "unreadable")

    out = tmp_path / "pages"
    status, printed, _ = call(without, held, "--out", out, main=command.main)
    first, second, third = printed.splitlines()
    assert status == 0
    assert first.removeprefix(f"{without}: ") == second.removeprefix(f"{held}: ")
    assert third.startswith("  content credentials: The file is as it was when it was signed. ")
    (page,) = out.glob("*b.jpg*.html")
    said = check(page.read_text()).text
    assert "Made with <b>\\u202eReal Camera 1.2" in said


def test_the_section_of_a_page():
    one = examined([0.9] * 4)
    assert "Content credentials" not in page_of(one).text

    def page(**told):
        fields = dataclasses.asdict(
            Credentials(**{"state": "valid", "meaning": "So it is.", **told})
        )
        media = {**one.verdict.media, "credentials": fields}
        return page_of(
            dataclasses.replace(one, verdict=dataclasses.replace(one.verdict, media=media))
        )

    said = page(issuer=BAD, actions=("c2pa.created", "c2pa.placed"), generative_ai="edited").text
    for words in (
        "This is what the file says of itself. It takes no part in the answer above. That a file "
        "has no content credentials means nothing",
        "So it is. Signed in the name of <img src=x onerror=alert(1)>",
        "Generative AI they say that generative AI made a part of the file",
        "What was done c2pa.created, c2pa.placed",
    ):
        assert words in said
    assert "Generative AI they say nothing of it" in page().text
    assert "Generative AI" not in page(state="unreadable").text
