"""What a bad connection or a wrong address does to the client: nothing twice, nothing lost, and words that help."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import ServerUnreachable, SpecError, SweepBusy, SweeperError, SweepNotFound
from sweeper.places import follow
from sweeper.places.follow import Follower, submit
from sweeper.places.http import Server, checked_url
from sweeper.places.remote_ledger import RemoteLedger
from sweeper.spec.parse import load_spec
from tests.relay import Accident, Relay, relay
from tests.served import SMALL, Served, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SPEC = load_spec(SMALL | {"search": {"trials": 30, "sampler": "random"}})
HTML = {"Content_Type": "text/html"}
PROBLEM = {"Content_Type": "application/problem+json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("accidents") / "home") as served:
        yield served


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.1)


class Heard:
    """A progress display that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, action: str, fields: Any) -> None:
        self.events.append((action, dict(fields)))

    def count(self, action: str) -> int:
        return sum(name == action for name, _ in self.events)

    def check_ends(self, trials: int) -> None:
        """Every trial ended once, and each improvement is one."""
        ends = [fields for name, fields in self.events if name == "trial.ended"]
        assert Counter(fields["trial"] for fields in ends) == Counter(range(trials))
        best = [fields["value"] for fields in ends if fields["improved"]]
        assert best == sorted(best, reverse=True)
        assert best[-1] == min(fields["value"] for fields in ends)


def followed(served: Served, way: Relay, name: str) -> Heard:
    """Submit a sweep over a way to the server, and follow it to its end."""
    ledger, heard = RemoteLedger(Server(way.url, served.tokens["bob"])), Heard()
    record = submit(ledger, load_spec(SPEC, name=name), lambda _: None)
    ended = Follower(ledger, record, heard).follow()
    assert ended.state == "complete"
    assert ended.counts["complete"] == 30
    ledger.close()
    return heard


def test_a_stream_that_breaks_off_again_and_again_goes_on_where_it_was(served: Served) -> None:
    cut = 0

    def accident(request: Any) -> bool:
        nonlocal cut
        if not request.path.endswith("/events"):
            return False
        with request.forward() as answer:
            request.pass_on(answer, limit=2000)
        cut += 1
        return True

    with relay(served.url, accident) as way:
        heard = followed(served, way, "broken-off")
    heard.check_ends(30)
    assert cut > 0  # a sweep that has ended meanwhile is told from its records, without another stream
    assert heard.count("sweep.opened") == 1, "no event comes twice"


@pytest.mark.parametrize("status", [200, 404])
def test_where_no_events_come_through_the_records_are_asked(served: Served, status: int) -> None:
    def accident(request: Any) -> bool:
        return request.path.endswith("/events") and request.say(status, "<html>a proxy</html>", **HTML)

    with relay(served.url, accident) as way:
        heard = followed(served, way, f"polled-{status}")
    heard.check_ends(30)
    assert [fields for name, fields in heard.events if name == "server.lost"] == []


def test_a_proxy_that_says_unavailable_for_a_while_is_waited_for(served: Served) -> None:
    left = 3

    def accident(request: Any) -> bool:
        nonlocal left
        if request.command == "POST" or left == 0 or "/sweeps/" not in request.path:
            return False
        left -= 1
        return request.say(502, "<html>bad gateway</html>", **HTML)

    with relay(served.url, accident) as way:
        heard = followed(served, way, "unavailable")
    heard.check_ends(30)
    assert (heard.count("server.lost"), heard.count("server.back")) == (1, 1)


def test_lost_answers_make_no_second_sweep_and_no_second_upload(served: Served, tmp_path: Path) -> None:
    lost = {"POST /api/v1/sweeps": 2, "POST /api/v1/datasets": 1}

    def accident(request: Any) -> bool:
        what = f"{request.command} {request.path.partition('?')[0]}"
        if not lost.get(what):
            return False
        lost[what] -= 1
        with request.forward():  # it gets there, and the answer does not come back
            return True

    table = tmp_path / "table.csv"
    table.write_text("x,y\n" + "".join(f"{i % 7},{'ab'[i % 2]}\n" for i in range(60)))
    spec = load_spec(SMALL | {"name": "once", "dataset": {"path": str(table), "target": "y"}})
    said: list[str] = []
    with relay(served.url, accident) as way:
        ledger = RemoteLedger(Server(way.url, served.tokens["bob"]))
        record = submit(ledger, spec, said.append)
        assert [r.sweep for r in ledger.sweeps(name="once")] == [record.sweep]
    assert lost == {"POST /api/v1/sweeps": 0, "POST /api/v1/datasets": 0}
    assert said == ["uploading table.csv (244 bytes)", "table.csv is on the server already"]
    served.wait(record.sweep, "complete")


def test_a_server_that_stays_away_ends_the_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FOLLOW_SECONDS", 0.5)
    sweep = served.submit("bob", SMALL)
    served.wait(sweep, "complete")  # so that what had ended before has to be asked for, too
    with relay(served.url) as way:
        ledger, heard = RemoteLedger(Server(way.url, served.tokens["bob"])), Heard()
        record = ledger.sweep(sweep)
        way.accident = lambda request: request.say(503, "away", **HTML)
        follower = Follower(ledger, record, heard)
        with pytest.raises(ServerUnreachable, match="is not available"):
            follower.follow()
    assert heard.count("server.lost") == 1


def test_a_token_that_is_revoked_meanwhile_ends_the_following(served: Served) -> None:
    sweep = served.submit("bob", SMALL)
    with relay(served.url) as way:
        ledger = RemoteLedger(Server(way.url, served.tokens["bob"]))
        record = ledger.sweep(sweep)
        way.accident = lambda request: request.say(401, "{}", **PROBLEM)
        with pytest.raises(SweeperError, match="rejects the token"):
            Follower(ledger, record, Heard()).follow()
    served.wait(sweep, "complete")


def problem(status: int, code: int = 1) -> Accident:
    told = {"title": "t", "status": status, "detail": "as the command line says it", "exit_code": code}
    return lambda request: request.say(status, json.dumps(told), **PROBLEM)


def page(status: int) -> Accident:
    return lambda request: request.say(status, "<html>hello</html>", **HTML)


def data(text: str, status: int = 200) -> Accident:
    return lambda request: request.say(status, text, Content_Type="application/json")


ELSEWHERE = "https://sweeps.example/api/v1/sweeps/a"


@pytest.mark.parametrize(
    ("accident", "kind", "words"),
    [
        (page(200), SweeperError, "200 with text/html and not JSON: this seems to be no sweep server"),
        (page(404), SweeperError, "404 with text/html: this seems to be no sweep server"),
        (data('{"detail": "x"}', 404), SweeperError, "this seems to be no sweep server"),
        (data('{"sweeps": ['), SweeperError, "JSON that cannot be read"),
        (data('{"sweep": "a"}'), SweeperError, "different versions"),
        (lambda r: r.say(308, Location=ELSEWHERE), SweeperError, "use https://sweeps.example instead"),
        (page(502), ServerUnreachable, "is not available (status 502)"),
        (page(401), SweeperError, "rejects the token in SWEEPER_TOKEN"),
        (lambda r: True, ServerUnreachable, "the connection was cut"),
        (problem(404, 4), SweepNotFound, "as the command line says it"),
        (problem(409), SweepBusy, "as the command line says it"),
        (problem(422, 2), SpecError, "as the command line says it"),
        (problem(413, 2), SpecError, "as the command line says it"),
        (problem(403), SweeperError, "as the command line says it"),
        (problem(500), SweeperError, "the server had an error: as the command line says it. See its log"),
        (problem(418), SweeperError, "as the command line says it"),
    ],
)
def test_what_a_server_answers_becomes_an_error_that_helps(
    accident: Accident, kind: type[SweeperError], words: str
) -> None:
    with relay(accident=accident) as way, pytest.raises(kind) as told:
        RemoteLedger(Server(way.url, "secret-token")).sweep("a")
    assert type(told.value) is kind
    assert words in str(told.value)
    assert "secret-token" not in str(told.value)


def test_too_many_wrong_tokens_say_when_to_come_back() -> None:
    body = json.dumps({"status": 429, "detail": "too many wrong tokens."})
    accident: Accident = lambda request: request.say(429, body, Retry_After="42", **PROBLEM)  # noqa: E731
    with relay(accident=accident) as way, pytest.raises(SweeperError, match=r"wrong tokens\. Try again in 42 seconds"):
        Server(way.url, "t").get("/info")


@pytest.mark.parametrize(
    "url", ["", "localhost:8700", "ftp://host", "http://", "http://a b", "http://host:99999", "http://me:pw@host", "http://h?x=1"]
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SpecError, match="SWEEPER_SERVER or --server"):
        checked_url(url)


def test_an_address_is_taken_with_a_slash_a_prefix_or_a_folder() -> None:
    assert checked_url("http://host:8700/") == "http://host:8700"
    assert checked_url("https://host/api/v1/") == "https://host"
    assert checked_url("https://host/sweeps/") == "https://host/sweeps"


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server whose certificate its own authority alone knows."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with relay(accident=lambda r: r.say(200, '{"user": "ann"}', Content_Type="application/json")) as way:
        way.socket = context.wrap_socket(way.socket, server_side=True)
        yield way.url.replace("http:", "https:"), certificate


def test_an_unknown_certificate_is_refused_until_its_authority_is_named(
    encrypted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = encrypted
    with pytest.raises(SweeperError, match=r"certificate is refused \(self-signed certificate\).*SSL_CERT_FILE"):
        Server(url, None).get("/info")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Server(url, None).get("/info") == {"user": "ann"}
    with pytest.raises(ServerUnreachable, match=r"was cut\)\. Check that it runs, and its address"):
        Server(url.replace("https:", "http:"), None).get("/info")


def test_an_unencrypted_server_is_told_apart_from_an_encrypted_one() -> None:
    with relay(accident=lambda request: request.say(200, "{}")) as way:
        url = way.url.replace("http:", "https:")
        with pytest.raises(SweeperError, match="http:// or https://"):
            Server(url, None).get("/info")


def test_the_best_so_far_satisfies_the_constraints_as_on_this_machine(served: Served) -> None:
    """The losses that are lowest break the constraint; what is told live and what is read later agree on the best."""
    wanted = load_spec(SPEC.to_json() | {"name": "bounded", "constraints": ["train_loss >= 0.7"]})
    ledger = RemoteLedger(Server(served.url, served.tokens["bob"]))
    record = submit(ledger, wanted, lambda _: None)
    live, late = Heard(), Heard()
    for heard in (live, late):
        Follower(ledger, record, heard).follow()
        improved = [fields["trial"] for name, fields in heard.events if name == "trial.ended" and fields["improved"]]
        trials = {trial.number: trial for trial in ledger.trials(record.sweep)}
        within = [t for t in trials.values() if t.metrics["train_loss"] >= 0.7]
        assert improved[-1] == min(within, key=lambda t: (t.value, t.number)).number
        assert trials[improved[-1]].value != min(t.value or 0.0 for t in trials.values()), (
            "the constraint does not bind"
        )
    ledger.close()
