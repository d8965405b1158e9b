"""The endpoints of single keys, through both lanes."""

from __future__ import annotations

import base64

from raftkv.kvstore import commands
from tests.web.lanes import LaneTestCase


class OriginalEndpointTests(LaneTestCase):
    """``/get``, ``/set`` and ``/delete``."""

    def test_set_then_get(self) -> None:
        """A key that was set is read back with its value and revisions."""
        written = self.ask("POST", "/set", "Content-Type: application/json", body=b'{"key":"a","value":"x"}')
        self.assertEqual((written.status, written.json()), (200, {"key": "a", "revision": 1}))
        self.assertEqual(
            self.ask_json("GET", "/get?key=a"),
            {"key": "a", "value": "x", "create_revision": 1, "mod_revision": 1, "version": 1},
        )

    def test_missing_key(self) -> None:
        """Reading a key that is not there answers 404 with the key in the message."""
        self.assert_refused(self.ask("GET", "/get?key=nope"), 404, "key_not_found", "nope")

    def test_delete(self) -> None:
        """A delete says whether there was anything, and takes a revision only then."""
        self.ask("POST", "/set", body=b'{"key":"a","value":"x"}')
        self.assertEqual(self.ask_json("DELETE", "/delete?key=a"), {"key": "a", "deleted": True, "revision": 2})
        self.assertEqual(self.ask_json("DELETE", "/delete?key=a"), {"key": "a", "deleted": False, "revision": 2})

    def test_content_types_of_json(self) -> None:
        """JSON is read as such without a type, as application/json and as what curl sends; another type is 415."""
        for header in ("X-None: 1", "Content-Type: application/json; charset=utf-8", "Content-Type: APPLICATION/JSON"):
            self.assertEqual(self.ask("POST", "/set", header, body=b'{"key":"a","value":"x"}').status, 200)
        form = "Content-Type: application/x-www-form-urlencoded"
        self.assertEqual(self.ask("POST", "/set", form, body=b'{"key":"a","value":"x=%41&y"}').status, 200)
        self.assertEqual(self.ask_json("GET", "/get?key=a")["value"], "x=%41&y")
        refused = self.ask("POST", "/set", "Content-Type: text/plain", body=b'{"key":"a","value":"x"}')
        self.assert_refused(refused, 415, "unsupported_media_type", "text/plain")

    def test_value_base64(self) -> None:
        """A value may be given in Base64, and comes back so where it is not UTF-8."""
        for value in (b"\xff\x00", b"", b"text"):
            encoded = base64.b64encode(value)
            self.ask_json("POST", "/set", body=b'{"key":"a","value_base64":"%b"}' % encoded)
            document = self.ask_json("GET", "/get?key=a")
            if value == b"\xff\x00":
                self.assertEqual(document["value_base64"], encoded.decode())
                self.assertNotIn("value", document)
            else:
                self.assertEqual(document["value"], value.decode())

    def test_unicode(self) -> None:
        """Keys and values are any UTF-8 text, also with escapes and NUL."""
        self.ask_json("POST", "/set", body='{"key":"clé/ü\\u0000\\ud83d\\ude00","value":"é\\n"}'.encode())
        document = self.ask_json("GET", "/get?key=cl%C3%A9/%C3%BC%00%F0%9F%98%80")
        self.assertEqual((document["key"], document["value"]), ("clé/ü\0😀", "é\n"))

    def test_plus_in_a_query_is_a_space(self) -> None:
        """In a query + is a space, and %2B is a plus."""
        self.ask_json("POST", "/set", body=b'{"key":"a b+c","value":"x"}')
        self.assertEqual(self.ask_json("GET", "/get?key=a+b%2Bc")["key"], "a b+c")

    def test_conditions_are_refused_where_they_have_no_meaning(self) -> None:
        """A conditional /set or /delete is refused rather than done without its condition."""
        refused = self.ask("POST", "/set", 'If-Match: "1"', body=b'{"key":"a","value":"x"}')
        self.assert_refused(refused, 400, "bad_request", "If-Match", "/v1/kv/{key}")
        self.assert_refused(
            self.ask("DELETE", "/delete?key=a", "If-None-Match: *"), 400, "bad_request", "If-None-Match"
        )
        self.assertEqual(self.fast.key_value.commands, [])


class KeyResourceTests(LaneTestCase):
    """``/v1/kv/{key}``."""

    def test_put_get_delete(self) -> None:
        """Raw bytes are put, read back as JSON or as they are, and deleted."""
        self.assertEqual(self.ask_json("PUT", "/v1/kv/a", body=b"\xffraw"), {"key": "a", "revision": 1})
        document = self.ask("GET", "/v1/kv/a")
        self.assertEqual(document.json()["value_base64"], base64.b64encode(b"\xffraw").decode())
        self.assertEqual(document.headers[b"ETag"], b'"1"')
        raw = self.ask("GET", "/v1/kv/a", "Accept: application/octet-stream")
        self.assertEqual((raw.body, raw.headers[b"Content-Type"]), (b"\xffraw", b"application/octet-stream"))
        self.assertEqual((raw.headers[b"ETag"], raw.headers[b"Vary"]), (b'"1"', b"Accept"))
        self.assertEqual(self.ask_json("DELETE", "/v1/kv/a"), {"key": "a", "deleted": True, "revision": 2})

    def test_put_takes_any_type_and_no_body(self) -> None:
        """The bytes of a PUT may bear any content type; without a body the value is empty."""
        self.ask_json("PUT", "/v1/kv/a", "Content-Type: image/png", body=b"x")
        self.ask_json("PUT", "/v1/kv/b")
        self.assertEqual(self.ask_json("GET", "/v1/kv/b")["value"], "")

    def test_keys_are_taken_as_they_are(self) -> None:
        """Slashes are ordinary, nothing is merged or normalised, escapes are decoded once."""
        paths = {
            "a": "a",
            "a/b": "a/b",
            "a%2Fb": "a/b",
            "a//b": "a//b",
            "/a": "/a",
            "//": "//",
            "a/": "a/",
            ".": ".",
            "../x": "../x",
            "a/./b": "a/./b",
            "%2e%2e": "..",
            "a%252Fb": "a%2Fb",
            "a+b": "a+b",
            "a;b=c": "a;b=c",
            "%00": "\0",
            "%F0%9F%98%80": "😀",
            "k%3Fx": "k?x",
        }
        for path, key in paths.items():
            self.assertEqual(self.ask_json("PUT", f"/v1/kv/{path}", body=b"v")["key"], key)
            self.assertEqual(self.fast.key_value.commands[-1][2], key.encode())
            self.assertEqual(self.ask_json("GET", f"/v1/kv/{path}")["key"], key)
        self.assertEqual(self.ask_json("GET", b"/v1/kv/\xf0\x9f\x98\x80")["key"], "😀")

    def test_a_key_of_the_path_and_one_of_a_document_are_the_same(self) -> None:
        """What /set wrote is read under /v1/kv/."""
        self.ask_json("POST", "/set", body=b'{"key":"a/b","value":"x"}')
        self.assertEqual(self.ask_json("GET", "/v1/kv/a%2Fb")["value"], "x")

    def test_head(self) -> None:
        """HEAD answers as GET does, with the length and without the body."""
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        whole, head = self.ask("GET", "/v1/kv/a"), self.ask("HEAD", "/v1/kv/a")
        self.assertEqual((head.status, head.headers, head.body), (200, whole.headers, b""))
        self.assertEqual(self.ask("HEAD", "/v1/kv/none").status, 404)

    def test_accept(self) -> None:
        """Raw bytes are answered where they are preferred to JSON, and JSON in every other case."""
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        for accept, raw in {
            "application/octet-stream": True,
            "Application/Octet-Stream; q=0.5": True,
            "application/octet-stream, */*;q=0.1": True,
            "application/json;q=0.5, application/octet-stream": True,
            "application/octet-stream;q=0.5, application/json": False,
            "application/json, application/octet-stream": False,
            "application/octet-stream;q=0": False,
            "application/octet-stream;q=high": False,
            "*/*": False,
            "text/html": False,
        }.items():
            answer = self.ask("GET", "/v1/kv/a", f"Accept: {accept}")
            self.assertEqual((accept, answer.body == b"x"), (accept, raw))


class ConditionTests(LaneTestCase):
    """ETag, If-Match and If-None-Match."""

    def setUp(self) -> None:
        super().setUp()
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        self.ask_json("PUT", "/v1/kv/a", body=b"y")

    def test_if_none_match_of_a_read(self) -> None:
        """A read of what the client already has is 304 without a body."""
        for tags in ('"2"', 'W/"2"', '"1", "2"', "*"):
            answer = self.ask("GET", "/v1/kv/a", f"If-None-Match: {tags}")
            self.assertEqual((answer.status, answer.body, answer.headers[b"ETag"]), (304, b"", b'"2"'))
            self.assertNotIn(b"Content-Length", answer.headers)
        self.assertEqual(self.ask("GET", "/v1/kv/a", 'If-None-Match: "1"').status, 200)
        self.assertEqual(self.ask("GET", "/v1/kv/none", "If-None-Match: *").status, 404)

    def test_if_match_of_a_read(self) -> None:
        """A read that insists on another revision is 412."""
        self.assertEqual(self.ask("GET", "/v1/kv/a", 'If-Match: "2"').status, 200)
        for tags in ('"1"', 'W/"2"', '"1", "3"'):
            self.assert_refused(self.ask("GET", "/v1/kv/a", f"If-Match: {tags}"), 412, "precondition_failed")

    def test_if_match_of_a_write(self) -> None:
        """A write with If-Match happens only at that mod revision, and a refusal tells the present one."""
        refused = self.ask("PUT", "/v1/kv/a", 'If-Match: "1"', body=b"z")
        self.assert_refused(refused, 412, "precondition_failed", "2")
        self.assertEqual((refused.json()["mod_revision"], refused.error["outcome"]), (2, "not_applied"))
        self.assertEqual(self.ask_json("PUT", "/v1/kv/a", 'If-Match: "2"', body=b"z")["revision"], 3)
        self.assertEqual(self.ask("DELETE", "/v1/kv/a", 'If-Match: "2"').status, 412)
        self.assertTrue(self.ask_json("DELETE", "/v1/kv/a", 'If-Match: "3"')["deleted"])
        gone = self.ask("DELETE", "/v1/kv/a", 'If-Match: "3"')
        self.assertEqual((gone.status, gone.json()["mod_revision"]), (412, 0))

    def test_existence(self) -> None:
        """If-Match: * needs a key, If-None-Match: * needs none."""
        self.assertEqual(self.ask("PUT", "/v1/kv/b", "If-Match: *", body=b"z").json()["mod_revision"], 0)
        self.assertEqual(self.ask("PUT", "/v1/kv/a", "If-None-Match: *", body=b"z").json()["mod_revision"], 2)
        self.assertEqual(self.ask("PUT", "/v1/kv/a", "If-Match: *", body=b"z").status, 200)
        self.assertEqual(self.ask("PUT", "/v1/kv/b", "If-None-Match: *", body=b"z").status, 200)
        self.assertEqual(self.ask("DELETE", "/v1/kv/b", "If-Match: *").status, 200)

    def test_malformed_conditions(self) -> None:
        """A condition that is not understood is 400, and nothing is written."""
        before = len(self.fast.key_value.commands)
        for header, name in (
            ("If-Match: 2", "If-Match"),
            ('If-Match: "2", "3"', "If-Match"),
            ('If-Match: W/"2"', "If-Match"),
            ('If-Match: "0"', "If-Match"),
            ('If-Match: "02"', "If-Match"),
            ('If-Match: "99999999999999999999"', "If-Match"),
            ('If-Match: "9999999999999999999"', "If-Match"),
            ("If-Match:", "If-Match"),
            ('If-None-Match: "2"', "If-None-Match"),
        ):
            self.assert_refused(self.ask("PUT", "/v1/kv/a", header, body=b"z"), 400, "bad_request", name)
        both = self.ask("PUT", "/v1/kv/a", 'If-Match: "2"', "If-None-Match: *", body=b"z")
        self.assert_refused(both, 400, "bad_request", "If-None-Match", "If-Match")
        self.assert_refused(self.ask("DELETE", "/v1/kv/a", "If-None-Match: *"), 400, "bad_request", "If-None-Match")
        self.assertEqual(len(self.fast.key_value.commands), before)


class ConsistencyTests(LaneTestCase):
    """``consistency=``."""

    def test_levels(self) -> None:
        """A read is linearizable unless it says otherwise."""
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        for query in ("", "?consistency=linearizable", "?consistency=lease", "?consistency=stale"):
            self.ask_json("GET", f"/v1/kv/a{query}")
        self.ask_json("GET", "/get?consistency=stale&key=a")
        for lane in self.lanes:
            self.assertEqual(lane.key_value.consistencies, ["linearizable", "linearizable", "lease", "stale", "stale"])

    def test_unknown_level(self) -> None:
        """Another word is 400 and names those that there are."""
        refused = self.ask("GET", "/get?key=a&consistency=eventual")
        self.assert_refused(refused, 400, "bad_request", "eventual", "linearizable", "lease", "stale")

    def test_bound_of_staleness(self) -> None:
        """``max_stale`` is a number of seconds, for stale reads alone; anything else is 400."""
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        for target in ("/get?key=a&consistency=stale&max_stale=2", "/v1/kv/a?max_stale=0.25&consistency=stale"):
            self.ask_json("GET", target)
        for lane in self.lanes:
            self.assertEqual(lane.key_value.bounds, [2.0, 0.25])
        for wrong in ("-1", "nan", "inf", "1e3", "", "x", "31536001", "1.", ".5", "%D9%A1"):
            refused = self.ask("GET", f"/v1/kv/a?consistency=stale&max_stale={wrong}")
            self.assert_refused(refused, 400, "bad_request", "max_stale", "number of seconds")
        for query in ("max_stale=1", "max_stale=1&consistency=lease", "max_stale=1&consistency=linearizable"):
            self.assert_refused(self.ask("GET", f"/v1/kv/a?{query}"), 400, "bad_request", "max_stale", "stale")

    def test_stale_answers_tell_their_age(self) -> None:
        """Every answer of a stale read says how old the state may be, rounded up; so does one that found nothing."""
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        for age, header in ((None, b"unknown"), (0.0, b"0.000"), (1.5001, b"1.501")):
            for lane in self.lanes:
                lane.key_value.age = age
            for target in ("/v1/kv/a", "/v1/kv/missing"):
                answer = self.ask("GET", f"{target}?consistency=stale")
                self.assertEqual(answer.headers[b"X-Raft-Staleness"], header)
        self.assertNotIn(b"X-Raft-Staleness", self.ask("GET", "/v1/kv/a?consistency=lease").headers)

    def test_a_write_takes_none(self) -> None:
        """A write is always linearizable: to ask for anything is 400."""
        for method, target in (
            ("PUT", "/v1/kv/a"),
            ("DELETE", "/v1/kv/a"),
            ("DELETE", "/delete?key=a"),
            ("POST", "/set"),
        ):
            separator = "&" if "?" in target else "?"
            refused = self.ask(method, f"{target}{separator}consistency=stale", body=b"{}")
            self.assert_refused(refused, 400, "bad_request", "consistency")

    def test_nothing_is_read_before_the_barrier(self) -> None:
        """What a read answers is the state once it may be read, not when it was asked (B32)."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.assertEqual(self.send(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n"), b"")
        for lane in self.lanes:
            lane.key_value.store.apply(1, commands.pack_batch(0, 0, [commands.put(b"a", b"late")]))
            lane.key_value.let_through()
        self.assertIn(b'"value":"late"', self.received())


class ExactlyOnceTests(LaneTestCase):
    """``X-Client-Id`` and ``X-Request-Seq``."""

    def test_repeat_gets_the_first_answer(self) -> None:
        """A write that is sent again is not applied again (B63)."""
        headers = ("X-Client-Id: c-1", "X-Request-Seq: 5")
        for _ in range(2):
            self.assertEqual(self.ask_json("PUT", "/v1/kv/a", *headers, body=b"x")["revision"], 1)
        for _ in range(2):
            document = self.ask_json(
                "POST", "/set", "X-Client-Id: c-1", "X-Request-Seq: 6", body=b'{"key":"b","value":""}'
            )
            self.assertEqual(document["revision"], 2)
        for target, sequence in (("/v1/kv/a", 7), ("/delete?key=b", 8)):
            for _ in range(2):
                self.assertTrue(
                    self.ask_json("DELETE", target, "X-Client-Id: c-1", f"X-Request-Seq: {sequence}")["deleted"]
                )

    def test_a_refusal_is_kept(self) -> None:
        """A 412 is an answer: a repeat gets it although the condition would hold by now."""
        headers = ("X-Client-Id: c-1", "X-Request-Seq: 1", "If-Match: *")
        self.assertEqual(self.ask("PUT", "/v1/kv/a", *headers, body=b"x").status, 412)
        self.ask_json("PUT", "/v1/kv/a", body=b"x")
        self.assertEqual(self.ask("PUT", "/v1/kv/a", *headers, body=b"x").status, 412)

    def test_reused_number(self) -> None:
        """A number with another request is 409, not applied."""
        self.ask_json("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 1", body=b"x")
        refused = self.ask("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 1", body=b"y")
        self.assert_refused(refused, 409, "sequence_reused")
        self.assertEqual(refused.error["outcome"], "not_applied")

    def test_number_below_the_window(self) -> None:
        """A number whose answer is no longer kept is 409, with an unknown outcome."""
        self.ask_json("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 5000", body=b"x")
        refused = self.ask("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 1", body=b"x")
        self.assert_refused(refused, 409, "sequence_too_old")
        self.assertEqual(refused.error["outcome"], "unknown")

    def test_malformed(self) -> None:
        """Both headers or neither, and each as it should be; else 400 and nothing is written."""
        for headers, name in (
            (("X-Client-Id: c",), "X-Request-Seq"),
            (("X-Request-Seq: 1",), "X-Client-Id"),
            (("X-Client-Id: ", "X-Request-Seq: 1"), "X-Client-Id"),
            (("X-Client-Id: a b", "X-Request-Seq: 1"), "X-Client-Id"),
            (("X-Client-Id: " + "c" * 129, "X-Request-Seq: 1"), "X-Client-Id"),
            (("X-Client-Id: c", "X-Client-Id: d", "X-Request-Seq: 1"), "X-Client-Id"),
            (("X-Client-Id: c", "X-Request-Seq: -1"), "X-Request-Seq"),
            (("X-Client-Id: c", "X-Request-Seq: one"), "X-Request-Seq"),
            (("X-Client-Id: c", "X-Request-Seq: 9223372036854775808"), "X-Request-Seq"),
            (("X-Client-Id: c", "X-Request-Seq: " + "9" * 5000), "X-Request-Seq"),
            (("X-Client-Id: c", "X-Request-Seq: 1", "X-Request-Seq: 2"), "X-Request-Seq"),
        ):
            self.assert_refused(self.ask("PUT", "/v1/kv/a", *headers, body=b"x"), 400, "bad_request", name)
        self.assertEqual(self.fast.key_value.commands, [])
        self.ask_json("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 9223372036854775807", body=b"x")
