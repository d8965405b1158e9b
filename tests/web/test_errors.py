"""What bad input and failing stores get, through both lanes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.config import SETTINGS
from raftkv.errors import RaftKVError
from raftkv.web.errors import STATUS_CODES, SlowRequest, error_answer, status_code
from raftkv.web.settings import SETTING_NAMES
from tests.web.lanes import HOST, LaneTestCase, parse_responses, request

KIB = 1024


class TableTests(SynchronousTestCase):
    """The one table from exceptions to status codes."""

    def test_every_error_has_a_status(self) -> None:
        """No error that a caller can be told falls through the table."""

        def subclasses(base: type[RaftKVError]) -> list[type[RaftKVError]]:
            direct = base.__subclasses__()
            return direct + [deeper for found in direct for deeper in subclasses(found)]

        # Errors of the client's own, and of nodes that are newer than this one, never arise in a server like this one.
        ours = [
            found for found in subclasses(RaftKVError) if found.__module__ in ("raftkv.errors", "raftkv.web.errors")
        ]
        self.assertGreater(len(ours), 15)
        self.assertEqual([found.__name__ for found in ours if found.code not in STATUS_CODES], [])

    def test_only_a_write_has_an_unknown_outcome(self) -> None:
        """A read fails with not_applied, whatever the error says of writes."""
        for is_write, outcome in ((True, b'"outcome":"unknown"'), (False, b'"outcome":"not_applied"')):
            self.assertIn(outcome, error_answer(errors.OutcomeUnknown(), is_write=is_write).body)

    def test_slow_client(self) -> None:
        """A client that is slow to send is told 408, a store that is slow to answer 504."""
        self.assertEqual(status_code(SlowRequest("slow", "not_applied")), 408)
        self.assertEqual(status_code(errors.RequestTimeout("slow", "unknown")), 504)

    def test_compacted_names_the_revision(self) -> None:
        """The error for a compacted revision tells which can still be read."""
        self.assertIn(b'"compact_revision":9', error_answer(errors.Compacted(9), is_write=False).body)

    def test_half_an_hour_is_whole_seconds(self) -> None:
        """Retry-After is rounded up, for to come too early is to be refused again."""
        error = errors.Overloaded("busy")
        error.retry_after_seconds = 1.2
        self.assertIn((b"Retry-After", b"2"), error_answer(error, is_write=True).headers)


class SettingNameTests(SynchronousTestCase):
    """The settings that refusals name."""

    def test_each_exists(self) -> None:
        """A refusal names a setting that there is, and that sets what is refused."""
        fields = {setting.key: setting.field for setting in SETTINGS}
        for field, key in SETTING_NAMES.items():
            self.assertEqual(fields.get(key, "").removeprefix("http_"), field, key)


class StoreErrorTests(LaneTestCase):
    """Errors that the store answers with."""

    def refuse(self, error: RaftKVError) -> None:
        self.each(lambda lane: setattr(lane.key_value, "refusal", error))

    def test_each_error_of_a_write(self) -> None:
        """Status, code, outcome and Retry-After are those of the contract."""
        for error, status, code, outcome, retry in (
            (errors.NoLeader(), 503, "no_leader", "not_applied", b"1"),
            (errors.NotLeader("node2", 3), 503, "no_leader", "not_applied", b"1"),
            (errors.ProposalDropped(), 503, "no_leader", "not_applied", b"1"),
            (errors.ShuttingDown(), 503, "no_leader", "not_applied", b"1"),
            (errors.Overloaded("too many writes wait"), 429, "overloaded", "not_applied", b"1"),
            (errors.OutcomeUnknown(), 503, "unavailable", "unknown", None),
            (errors.RequestTimeout("no answer within 5 s", "unknown"), 504, "timeout", "unknown", None),
            (errors.RequestTimeout("no leader within 5 s", "not_applied"), 504, "timeout", "not_applied", None),
        ):
            self.refuse(error)
            refused = self.ask("PUT", "/v1/kv/a", body=b"x")
            self.assert_refused(refused, status, code, str(error))
            self.assertEqual(refused.error["outcome"], outcome)
            self.assertEqual(refused.headers.get(b"Retry-After"), retry)

    def test_each_error_of_a_read(self) -> None:
        """A read that fails has changed nothing."""
        self.refuse(errors.RequestTimeout("no answer", "unknown"))
        refused = self.ask("GET", "/get?key=a")
        self.assert_refused(refused, 504, "timeout")
        self.assertEqual(refused.error["outcome"], "not_applied")


class RoutingErrorTests(LaneTestCase):
    """Paths and methods."""

    def test_unknown_paths(self) -> None:
        """A path that does not exist is 404, in JSON, with the headers of every answer."""
        for path in (
            "/",
            "/nope",
            "/v1/kvs",
            "/v1",
            "/get/",
            "/get/x",
            "//get",
            "/v1/kv/../../get/",
            "/%67et",
            "/v1/statu",
        ):
            refused = self.ask("GET", path)
            if not path.startswith("/v1/kv/"):
                self.assert_refused(refused, 404, "not_found", path)
            self.assertEqual(refused.headers[b"X-Raft-Node"], b"node1")
            self.assertEqual(refused.headers[b"Content-Type"], b"application/json")
        self.assert_refused(self.ask("GET", b"/\xff\xfe"), 404, "not_found")
        self.assert_refused(self.ask("GET", "/" + "a/" * 500), 404, "not_found")
        self.assert_refused(self.ask("OPTIONS", "*"), 404, "not_found")

    def test_wrong_methods(self) -> None:
        """A method that a path does not have is 405, with those that it has in Allow."""
        for method, path, allow in (
            ("POST", "/get?key=a", b"GET, HEAD, OPTIONS"),
            ("GET", "/set", b"POST, OPTIONS"),
            ("GET", "/delete?key=a", b"DELETE, OPTIONS"),
            ("PATCH", "/v1/kv/a", b"GET, HEAD, PUT, DELETE, OPTIONS"),
            ("POST", "/v1/kv/a", b"GET, HEAD, PUT, DELETE, OPTIONS"),
            ("get", "/v1/kv/a", b"GET, HEAD, PUT, DELETE, OPTIONS"),
            ("BREW", "/v1/status", b"GET, HEAD, OPTIONS"),
            ("TRACE", "/metrics", b"GET, HEAD, OPTIONS"),
        ):
            refused = self.ask(method, path, body=b"{}")
            self.assert_refused(refused, 405, "method_not_allowed", method)
            self.assertEqual(refused.headers[b"Allow"], allow)
        self.assertEqual(self.ask("HEAD", "/set").headers[b"Allow"], b"POST, OPTIONS")

    def test_options(self) -> None:
        """OPTIONS tells the methods and does nothing."""
        answer = self.ask("OPTIONS", "/v1/kv/a")
        self.assertEqual((answer.status, answer.headers[b"Allow"]), (204, b"GET, HEAD, PUT, DELETE, OPTIONS"))
        self.assertNotIn(b"Content-Length", answer.headers)
        self.assertEqual(self.ask("OPTIONS", "/v1/status").headers[b"Allow"], b"GET, HEAD, OPTIONS")

    def test_every_answer_says_who_leads(self) -> None:
        """The three headers are those of the moment, and the leader's address is empty where none is known."""
        headers = self.ask("GET", "/get?key=a").headers
        self.assertEqual(
            (headers[b"X-Raft-Node"], headers[b"X-Raft-Term"], headers[b"X-Raft-Leader"]),
            (b"node1", b"7", b"10.0.0.2:8080"),
        )
        from dataclasses import replace

        for lane in self.lanes:
            lane.node.now = replace(lane.node.now, term=8, leader=None, leader_http_addr="")
        for path in ("/get?key=a", "/nope", "/v1/status"):
            headers = self.ask("GET", path).headers
            self.assertEqual((headers[b"X-Raft-Term"], headers[b"X-Raft-Leader"]), (b"8", b""))


class ParameterErrorTests(LaneTestCase):
    """Query parameters and keys."""

    def test_query(self) -> None:
        """Unknown, repeated, missing and malformed parameters are 400 and named."""
        for target, *words in (
            ("/get", "key", "missing"),
            ("/get?", "key", "missing"),
            ("/get?key=", "key", "empty"),
            ("/get?key=a&key=b", "'key'", "more than once"),
            ("/get?key=a&color=red", "'color'", "consistency, key"),
            ("/get?key=a&consistency=stale&consistency=stale", "'consistency'"),
            ("/get?key=%zz", "'key'", "hexadecimal"),
            ("/get?key=%4", "'key'", "hexadecimal"),
            ("/get?%zz=1", "query", "hexadecimal"),
            ("/get?key=%ff", "key", "UTF-8"),
            ("/v1/kv/a?prefix=b", "'prefix'"),
            ("/v1/status?x=1", "'x'", "none"),
            ("/v1/kv/%ff", "key", "UTF-8", "byte 0"),
            ("/v1/kv/ok%c3%28", "key", "UTF-8", "byte 2"),
            ("/v1/kv/%ED%A0%80", "key", "UTF-8"),
            ("/v1/kv/%", "key", "hexadecimal"),
            ("/v1/kv/", "key", "empty"),
            ("/v1/kv/?consistency=stale", "key", "empty"),
        ):
            self.assert_refused(self.ask("GET", target), 400, "bad_request", *words)
        self.assertEqual(self.ask("GET", "/get?&key=a&").status, 404)

    def test_long_keys(self) -> None:
        """A key may have 4096 bytes and no more, wherever it stands; the message names size and setting (B70)."""
        longest, longer = "k" * 4096, "é" * 2048 + "k"
        self.ask_json("PUT", f"/v1/kv/{longest}", body=b"x")
        self.ask_json("POST", "/set", body=b'{"key":"%b","value":""}' % longest.encode())
        escaped = longer.replace("é", "%C3%A9")
        for refused in (
            self.ask("PUT", f"/v1/kv/{escaped}", body=b"x"),
            self.ask("GET", f"/get?key={escaped}"),
            self.ask("DELETE", f"/delete?key={escaped}"),
            self.ask("POST", "/set", body=f'{{"key":"{longer}","value":""}}'.encode()),
        ):
            self.assert_refused(refused, 413, "too_large", "key", "4097", "limits.maxKeyBytes", "4096")


class DocumentErrorTests(LaneTestCase):
    """JSON bodies."""

    def test_malformed(self) -> None:
        """What is no JSON object of the right fields is 400 and says where it is wrong; nothing is written."""
        for body, *words in (
            (b"", "body", "empty"),
            (b"{", "body", "JSON"),
            (b'{"key":"a","value":"b"', "JSON"),
            (b'{"key":"a","value":"b"} x', "JSON"),
            (b"key=a&value=b", "JSON"),
            (b"[]", "object", "a list"),
            (b'"a"', "object", "a string"),
            (b"null", "object", "null"),
            (b"12", "object", "a number"),
            (b'{"key":"a","value":NaN}', "JSON"),
            (b'{"key":"a","value":Infinity}', "JSON"),
            (b"{'key':'a'}", "JSON"),
            (b'{"key":"a","value":"\xff"}', "JSON"),
            (b'\xef\xbb\xbf{"key":"a","value":"b"}', "JSON"),
            (b'{"key":"\\ud800","value":"b"}', "JSON"),
            (b'{"key":"a","value":"\\udc00x"}', "JSON"),
            (b'{"key":"a","value":"a\nb"}', "JSON"),
            (b"[" * 100_000, "JSON"),
            (b"{}", "key", "missing"),
            (b'{"key":"a"}', "value", "missing"),
            (b'{"value":"a"}', "key", "missing"),
            (b'{"key":1,"value":"b"}', "key", "a number"),
            (b'{"key":null,"value":"b"}', "key", "null"),
            (b'{"key":"a","value":true}', "value", "a boolean"),
            (b'{"key":"a","value":["b"]}', "value", "a list"),
            (b'{"key":"a","value":{"b":1}}', "value", "an object"),
            (b'{"key":"a","value":18446744073709551616}', "value", "a number"),
            (b'{"key":"a","value":1e999}', "JSON"),
            (b'{"key":"a","value_base64":7}', "value_base64", "a number"),
            (b'{"key":"a","value":"b","value_base64":"Yg=="}', "value", "value_base64", "both"),
            (b'{"key":"a","value_base64":"Yg"}', "value_base64"),
            (b'{"key":"a","value_base64":"Y g="}', "value_base64"),
            (b'{"key":"a","value_base64":"Yg==Yg=="}', "value_base64"),
            (b'{"key":"a","value_base64":"Y-_="}', "value_base64"),
            (b'{"key":"a","value_base64":"\xc3\xa9"}', "value_base64"),
            (b'{"key":"a","value":"b","tll":3}', "'tll'", "key, lease, ttl, value, value_base64"),
            (b'{"key":"a","value":"b","":""}', "''"),
            (b'{"key":"","value":"b"}', "key", "empty"),
            (b'{"key":"a","key":"b","value":"c"}', "'key'", "more than once"),
            (b'{"key":"a","k\\u0065y":"b","value":"c"}', "'key'", "more than once"),
            (b'{"key":"a","value":1,"value":"c"}', "'value'", "more than once"),
            (b'{"key":"a","value":1,"value":2}', "'value'", "more than once"),
            (b'{"key":"a","value":"c","value":{"a":1,"a":2}}', "more than once"),
            (b'{"key":"a","value":"\\"","value":"c"}', "'value'", "more than once"),
        ):
            self.assert_refused(self.ask("POST", "/set", body=body), 400, "bad_request", *words)
        self.assertEqual(self.fast.key_value.commands, [])

    def test_quotes_and_backslashes_are_not_taken_for_repeated_names(self) -> None:
        """The look for repeated names is not misled by what stands in the strings."""
        for body, value in (
            (b'{"key":"a","value":"\\"\\""}', '""'),
            (b'{"key":"a","value":"\\\\"}', "\\"),
            (b' { "value" : "key" , "key" : "a" } ', "key"),
        ):
            self.ask_json("POST", "/set", body=body)
            self.assertEqual(self.ask_json("GET", "/get?key=a")["value"], value)

    def test_deep_nesting(self) -> None:
        """A document nested as deeply as the parser goes is refused like any other."""
        deep = b'{"key":"a","value":' + b"[" * 1000 + b"]" * 1000 + b"}"
        self.assert_refused(self.ask("POST", "/set", body=deep), 400, "bad_request")

    def test_compressed_bodies(self) -> None:
        """A compressed body is 415, rather than stored as it came."""
        for method, path in (("POST", "/set"), ("PUT", "/v1/kv/a")):
            refused = self.ask(method, path, "Content-Encoding: gzip", body=b"x")
            self.assert_refused(refused, 415, "unsupported_media_type", "Content-Encoding", "gzip")

    def test_large_values(self) -> None:
        """A value may have a mebibyte and no more, in any spelling (B70)."""
        largest = b"v" * KIB * KIB
        self.ask_json("PUT", "/v1/kv/a", body=largest)
        self.ask_json("POST", "/set", body=b'{"key":"a","value":"%b"}' % largest)
        self.ask_json("POST", "/set", body=b'{"key":"a","value":"%b"}' % (b"\\u0076" * KIB * KIB))
        refused = self.ask("POST", "/set", body=b'{"key":"a","value":"%bv"}' % largest)
        self.assert_refused(refused, 413, "too_large", "value", "1048577", "limits.maxValueBytes", "1048576")
        encoded = b"AAAA" * ((KIB * KIB + 3) // 3)
        refused = self.ask("POST", "/set", body=b'{"key":"a","value_base64":"%b"}' % encoded)
        self.assert_refused(refused, 413, "too_large", "value", "limits.maxValueBytes")


class OriginTests(LaneTestCase):
    """Requests that another site's page makes a browser send."""

    def test_foreign_origin(self) -> None:
        """An Origin that is not the Host is 403, on every route and method, and nothing is done."""
        for origin in (
            "http://evil.example",
            "null",
            "http://localhost",
            "http://localhost:8081",
            "localhost:8080",
            "",
            "moz-extension://localhost:8080",
            "http://localhost:8080, http://localhost:8080",
            "http://localhost:8080\r\nOrigin: http://localhost:8080",
        ):
            for method, path in (("PUT", "/v1/kv/a"), ("GET", "/v1/status"), ("GET", "/nope"), ("OPTIONS", "/get")):
                refused = self.ask(method, path, f"Origin: {origin}")
                self.assert_refused(refused, 403, "forbidden", "Origin", "Host")
        self.assertEqual(self.fast.key_value.commands, [])

    def test_absolute_target(self) -> None:
        """A target in absolute form names the host, whatever Host says (RFC 9112, 3.2.2)."""
        for target, status in ((b"http://evil.example/v1/kv/a", 403), (b"http://a.example/v1/kv/a", 404)):
            for _ in range(2):
                answer = self.ask("GET", target, "Origin: http://a.example", host=b"Host: a.example\r\n")
                self.assertEqual(answer.status, status)
        data = request("GET", "/v1/kv/a", "Origin: http://localhost:8080")
        foreign = data.replace(b"/v1", b"http://b.example/v1", 1)
        answers = parse_responses(self.send(data + foreign + data))
        self.assertEqual([answer.status for answer in answers], [404, 403, 404])

    def test_own_origin(self) -> None:
        """An Origin that is the Host is served, whatever its case and scheme, with or without the default port."""
        for origin, host in (
            ("http://localhost:8080", b"Host: localhost:8080\r\n"),
            ("HTTPS://LocalHost:8080", b"Host: localhost:8080\r\n"),
            ("http://a.example", b"Host: a.example:80\r\n"),
            ("https://a.example:443", b"Host: A.example\r\n"),
            ("http://[::1]:8080", b"Host: [::1]:8080\r\n"),
        ):
            self.assertEqual(self.ask("PUT", "/v1/kv/a", f"Origin: {origin}", body=b"", host=host).status, 200)
        self.assertEqual(self.ask("GET", "/v1/status", host=HOST).status, 200)
