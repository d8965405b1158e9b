"""``POST /v1/txn`` and ``POST /v1/increment``, through both lanes."""

from __future__ import annotations

import base64
import json
from typing import Any

from raftkv.kvstore import commands
from raftkv.kvstore.checking import CommandLimits
from tests.web.lanes import LaneTestCase, Response


class TransactionTestCase(LaneTestCase):
    """A store with two keys."""

    def setUp(self) -> None:
        super().setUp()
        self.fill()

    def fill(self) -> None:
        """Set them."""
        self.each(lambda lane: lane.key_value.apply(commands.put(b"a", b"1"), commands.put(b"b", b"2")))

    def post(self, document: Any, *headers: str) -> Response:
        """Send a transaction."""
        return self.ask("POST", "/v1/txn", *headers, body=json.dumps(document).encode())

    def transact(self, *success: Any, compare: Any = (), failure: Any = ()) -> Any:
        """Return the answer of a transaction that must be carried out."""
        response = self.post({"compare": list(compare), "success": list(success), "failure": list(failure)})
        self.assertEqual(response.status, 200, response.body)
        return response.json()

    def holds(self, *compare: Any) -> bool:
        """Tell whether conditions hold."""
        succeeded: bool = self.transact(compare=compare)["succeeded"]
        return succeeded

    def assert_bad(self, document: Any, *words: str) -> None:
        """Check that a transaction is 400, that the message names these, and that nothing was proposed."""
        before = len(self.fast.key_value.commands)
        self.assert_refused(self.post(document), 400, "bad_request", *words)
        self.assertEqual(len(self.fast.key_value.commands), before)


class ResultTests(TransactionTestCase):
    """Each operation is answered as its endpoint would."""

    def test_each_operation(self) -> None:
        """One result for each operation, all at one revision; a missing key is null."""
        answer = self.transact(
            {"op": "put", "key": "c", "value": "3"},
            {"op": "get", "key": "c"},
            {"op": "get", "key": "none"},
            {"op": "get", "key": "a", "revision": 1},
            {"op": "delete", "key": "a"},
            {"op": "delete", "key": "none"},
            {"op": "range", "start": "b"},
            {"op": "range", "prefix": "", "count_only": True},
            {"op": "delete", "start": "w", "end": "x"},
            {"op": "delete", "prefix": "x/"},
        )
        record_c = {"key": "c", "value": "3", "create_revision": 3, "mod_revision": 3, "version": 1}
        record_b = {"key": "b", "value": "2", "create_revision": 2, "mod_revision": 2, "version": 1}
        record_a = {"key": "a", "value": "1", "create_revision": 1, "mod_revision": 1, "version": 1}
        self.assertEqual(
            answer,
            {
                "succeeded": True,
                "revision": 3,
                "results": [
                    {"key": "c", "revision": 3},
                    record_c,
                    None,
                    record_a,
                    {"key": "a", "deleted": True, "revision": 3},
                    {"key": "none", "deleted": False, "revision": 3},
                    {"kvs": [record_b, record_c], "count": 2, "continue": None, "revision": 3},
                    {"count": 2, "revision": 3},
                    {"deleted": 0, "revision": 3},
                    {"deleted": 0, "revision": 3},
                ],
            },
        )

    def test_nested(self) -> None:
        """Results nest as the transactions do, and a nested compare sees what came before."""
        inner = {
            "op": "txn",
            "compare": [{"key": "c", "target": "version", "op": "=", "value": 1}],
            "success": [{"op": "get", "key": "c"}],
        }
        answer = self.transact({"op": "put", "key": "c", "value": "x"}, inner)
        self.assertEqual(answer["results"][1]["succeeded"], True)
        self.assertEqual(answer["results"][1]["results"][0]["value"], "x")
        self.assertEqual(answer["results"][1]["revision"], 3)

    def test_the_other_branch(self) -> None:
        """Where a compare does not hold, the other list runs; what changes nothing takes no revision."""
        answer = self.transact(
            {"op": "put", "key": "a", "value": "x"},
            compare=[{"key": "a", "target": "mod_revision", "op": "=", "value": 9}],
            failure=[{"op": "get", "key": "a"}],
        )
        self.assertEqual((answer["succeeded"], answer["revision"]), (False, 2))
        self.assertEqual(answer["results"][0]["value"], "1")

    def test_empty(self) -> None:
        """Every list may be missing."""
        self.assertEqual(self.post({}).json(), {"succeeded": True, "revision": 2, "results": []})

    def test_values_that_are_no_text(self) -> None:
        """Any bytes go in, are compared, and come out."""
        raw = base64.b64encode(b"\xff\x00").decode()
        self.transact({"op": "put", "key": "c", "value_base64": raw})
        answer = self.transact(
            {"op": "get", "key": "c"}, compare=[{"key": "c", "target": "value", "op": "=", "value_base64": raw}]
        )
        self.assertEqual((answer["succeeded"], answer["results"][0]["value_base64"]), (True, raw))

    def test_range_with_more(self) -> None:
        """``continue`` of a range has the rest, with ``GET /v1/kv``, as of the transaction's revision."""
        for reverse, keys in ((False, ["b", "c"]), (True, ["b", "a"])):
            answer = self.transact(
                {"op": "put", "key": "c", "value": "3"}, {"op": "range", "start": "a", "limit": 1, "reverse": reverse}
            )
            found = answer["results"][1]
            self.each(lambda lane: lane.key_value.apply(commands.put(b"b0", b"later")))
            query = f"start=a&reverse={'true' if reverse else 'false'}&continue={found['continue']}"
            rest = self.ask_json("GET", f"/v1/kv?{query}")
            self.assertEqual([record["key"] for record in rest["kvs"]], keys)
            self.assertEqual((rest["count"], rest["revision"]), (3, answer["revision"]))
            self.each(lambda lane: lane.key_value.apply(commands.delete(b"b0")))

    def test_keys_only(self) -> None:
        """Records without values, the first or the last ones."""
        answer = self.transact({"op": "range", "keys_only": True, "limit": 1, "reverse": True})
        (record,) = answer["results"][0]["kvs"]
        self.assertEqual(record, {"key": "b", "create_revision": 2, "mod_revision": 2, "version": 1})

    def test_lease(self) -> None:
        """A put may attach its key to a lease; one that does not exist undoes everything."""
        self.each(lambda lane: lane.key_value.apply(commands.grant(5_000)))
        self.transact({"op": "put", "key": "c", "value": "", "lease": 1})
        self.assertTrue(self.holds({"key": "c", "target": "lease", "op": "=", "value": 1}))
        refused = self.post(
            {"success": [{"op": "put", "key": "d", "value": ""}, {"op": "put", "key": "e", "value": "", "lease": 7}]}
        )
        self.assert_refused(refused, 404, "lease_not_found", "7")
        self.assertEqual(refused.error["outcome"], "not_applied")
        self.assertEqual(self.ask("GET", "/get?key=d").status, 404)

    def test_past_revisions(self) -> None:
        """Reads of a revision that is gone or has not been are errors, and undo everything (B33)."""
        self.each(lambda lane: lane.key_value.apply(commands.put(b"a", b"x"), commands.compact(2)))
        for revision, status, code in ((1, 410, "compacted"), (9, 400, "future_revision")):
            for read in ({"op": "get", "key": "a"}, {"op": "range", "prefix": "a"}):
                refused = self.post(
                    {"success": [{"op": "put", "key": "z", "value": ""}, {**read, "revision": revision}]}
                )
                self.assert_refused(refused, status, code)
        self.assertEqual(self.ask("GET", "/get?key=z").status, 404)


class CompareTests(TransactionTestCase):
    """Conditions."""

    def test_each_target_and_operator(self) -> None:
        """Numbers and values are compared as etcd does."""
        self.each(lambda lane: lane.key_value.apply(commands.put(b"a", b"1")))
        for target, op, value, expected in (
            ("value", "=", "1", True),
            ("value", "!=", "1", False),
            ("value", "<", "2", True),
            ("value", ">", "0", True),
            ("version", "=", 2, True),
            ("version", ">", 2, False),
            ("create_revision", "=", 1, True),
            ("mod_revision", "=", 3, True),
            ("mod_revision", "<", 4, True),
            ("lease", "=", 0, True),
        ):
            condition = {"key": "a", "target": target, "op": op, "value": value}
            self.assertEqual((condition, self.holds(condition)), (condition, expected))

    def test_missing_key(self) -> None:
        """It has the numbers 0 and the value null, which equals only null and is neither less nor greater."""
        for target, op, value, expected in (
            ("version", "=", 0, True),
            ("mod_revision", "<", 1, True),
            ("value", "=", None, True),
            ("value", "!=", None, False),
            ("value", "=", "", False),
            ("value", "<", "x", False),
            ("value", ">", "", False),
        ):
            condition = {"key": "none", "target": target, "op": op, "value": value}
            self.assertEqual((condition, self.holds(condition)), (condition, expected))
        self.assertFalse(self.holds({"key": "a", "target": "value", "op": "=", "value": None}))

    def test_ranges(self) -> None:
        """A condition on a range is one on each of its keys, and holds where there is none."""
        for where in ({"prefix": ""}, {"start": "a", "end": "c"}, {"start": "a"}, {"end": "z"}):
            self.assertTrue(self.holds({**where, "target": "version", "op": "=", "value": 1}))
            self.assertFalse(self.holds({**where, "target": "create_revision", "op": "=", "value": 1}))
        self.assertTrue(self.holds({"prefix": "none", "target": "version", "op": ">", "value": 9}))


class BadTransactionTests(TransactionTestCase):
    """What is no transaction is 400, says where, and changes nothing."""

    def test_fields(self) -> None:
        """Each field that is wrong is named, with its place."""
        good = {"key": "a", "target": "value", "op": "=", "value": "x"}
        for document, *words in (
            ([], "object"),
            ({"compares": []}, "compares"),
            ({"compare": {}}, "compare", "a list"),
            ({"success": "x"}, "success", "a list"),
            ({"failure": [1]}, "failure[0]", "an object"),
            ({"compare": [{**good, "targets": 1}]}, "compare[0]", "targets"),
            ({"compare": [good, {**good, "target": "values"}]}, "compare[1].target", "values", "mod_revision"),
            ({"compare": [{**good, "target": 1}]}, "compare[0].target", "a string"),
            ({"compare": [{**good, "op": "=="}]}, "compare[0].op", "=="),
            ({"compare": [{**good, "op": None}]}, "compare[0].op", "null"),
            ({"compare": [{**good, "value": 1}]}, "compare[0].value", "a string"),
            ({"compare": [{**good, "value_base64": "eA=="}]}, "compare[0].value", "not both"),
            ({"compare": [{**good, "prefix": "a"}]}, "compare[0].key", "prefix"),
            ({"compare": [{**good, "prefix": "a", "start": "b"}]}, "compare[0].prefix"),
            ({"compare": [{**good, "key": 7}]}, "compare[0].key", "a number"),
            ({"compare": [{**good, "key": ""}]}, "compare[0].key", "empty"),
            ({"compare": [{**good, "target": "version"}]}, "compare[0].value", "a whole number"),
            ({"compare": [{**good, "target": "version", "value": None}]}, "compare[0].value", "null"),
            ({"compare": [{**good, "target": "version", "value": True}]}, "compare[0].value", "a boolean"),
            ({"compare": [{**good, "target": "version", "value": 1.0}]}, "compare[0].value", "1.0"),
            ({"compare": [{**good, "target": "version", "value": -1}]}, "compare[0].value", "-1"),
            ({"compare": [{**good, "target": "version", "value": 2**63}]}, "compare[0].value"),
            ({"compare": [{**good, "target": "version", "value": 2**70}]}, "compare[0].value"),
            ({"compare": [{"target": "version", "op": "=", "value": 1}]}, "compare[0].key", "missing"),
            ({"compare": [{"key": "a", "op": "=", "value": 1}]}, "compare[0].target", "missing"),
            ({"compare": [{"key": "a", "target": "version", "op": "="}]}, "compare[0].value", "missing"),
            ({"compare": [{"key": "a", "target": "value", "op": "="}]}, "compare[0].value", "missing"),
            ({"success": [{}]}, "success[0].op", "missing"),
            ({"success": [{"op": "putt"}]}, "success[0].op", "putt", "put, get"),
            ({"success": [{"op": "put", "key": "x"}]}, "success[0].value", "missing"),
            ({"success": [{"op": "put", "value": "x"}]}, "success[0].key", "missing"),
            ({"success": [{"op": "put", "key": "x", "value": "", "ttl": 5}]}, "success[0]", "ttl"),
            ({"success": [{"op": "put", "key": "x", "value": "", "lease": -1}]}, "success[0].lease"),
            ({"success": [{"op": "put", "key": "x", "value": "", "lease": "1"}]}, "success[0].lease", "a string"),
            ({"success": [{"op": "get", "prefix": "x"}]}, "success[0]", "prefix"),
            ({"success": [{"op": "get", "key": "x", "revision": 0}]}, "success[0].revision"),
            ({"success": [{"op": "delete"}]}, "success[0].key", "missing"),
            ({"success": [{"op": "delete", "end": ""}]}, "success[0].end"),
            ({"success": [{"op": "range", "limit": 0}]}, "success[0].limit"),
            ({"success": [{"op": "range", "limit": 1001}]}, "success[0].limit", "1000"),
            ({"success": [{"op": "range", "reverse": 1}]}, "success[0].reverse", "true or false"),
            ({"success": [{"op": "range", "continue": "x"}]}, "success[0]", "continue"),
            ({"failure": [{"op": "txn", "success": [{"op": "put"}]}]}, "failure[0].success[0].value"),
            ({"success": [{"op": "txn", "compare": [{}]}]}, "success[0].compare[0].target"),
        ):
            with self.subTest(document=document):
                self.assert_bad(document, *words)

    def test_no_document(self) -> None:
        """No JSON, too deep, or with a name twice."""
        deep: Any = []
        for _ in range(1500):
            deep = [deep]
        for body in (b"", b"{", b'{"success":[],"success":[]}', b"[" * 3000, b'{"success":[{"op":"get","op":"put"}]}'):
            self.assertEqual(self.ask("POST", "/v1/txn", body=body).status, 400)
        nested = b'{"success":[{"op":"txn",' * 400 + b'"success":[]' + b"}]}" * 400
        self.assertEqual(self.ask("POST", "/v1/txn", body=nested).status, 400)
        self.assertEqual(self.ask("POST", "/v1/txn", "Content-Type: text/xml", body=b"{}").status, 415)
        self.assertEqual(self.post({}, 'If-Match: "1"').status, 400)

    def test_double_writes(self) -> None:
        """Two writes to one key in one list are refused, in whatever form; one in each branch is not."""
        put = {"op": "put", "key": "a", "value": ""}
        for other in (
            put,
            {"op": "delete", "key": "a"},
            {"op": "delete", "prefix": ""},
            {"op": "txn", "success": [put]},
            {"op": "txn", "failure": [put]},
        ):
            self.assert_bad({"success": [put, other]}, "a")
        self.transact(put, failure=[put])

    def test_nesting(self) -> None:
        """Eight transactions may stand in one another."""
        document: Any = {}
        for _ in range(7):
            document = {"success": [{"op": "txn", **document}]}
        self.assertEqual(self.post(document).status, 200)
        self.assert_bad({"success": [{"op": "txn", **document}]}, "op", "8")

    def test_counts(self) -> None:
        """Operations and compares are counted, those nested included."""
        get = {"op": "get", "key": "a"}
        compare = {"key": "a", "target": "version", "op": "=", "value": 1}
        self.assertEqual(self.post({"success": [get] * 64, "failure": [get] * 64}).status, 200)
        self.assert_bad({"success": [get] * 129}, "op", "128", "limits.maxTransactionOperations")
        self.assert_bad({"success": [{"op": "txn", "success": [get] * 100}, *[get] * 28]}, "op", "128")
        self.assert_bad({"compare": [compare] * 129}, "compare", "128")

    def test_sizes(self) -> None:
        """A value that is too large is named with its place; what is too large together is 413 as well."""
        self.configure(commands=CommandLimits(max_transaction_bytes=3000), max_value_bytes=2000)
        large = {"op": "put", "key": "a", "value": "x" * 2001}
        self.assert_refused(self.post({"success": [large]}), 413, "too_large", "success[0].value", "2001")
        both = [{"op": "put", "key": key, "value": "x" * 1900} for key in "ab"]
        self.assert_refused(self.post({"success": both}), 413, "too_large", "3000")
        self.assert_refused(
            self.post({"success": [{"op": "get", "key": "k" * 4097}]}), 413, "too_large", "success[0].key"
        )
        self.assertEqual(self.fast.key_value.commands, [])

    def test_answer_that_is_too_large(self) -> None:
        """What reads too much at once is 413, and has done nothing."""
        self.each(
            lambda lane: lane.key_value.apply(*(commands.put(b"v%d" % number, b"x" * 2**20) for number in range(5)))
        )
        document = {"success": [{"op": "put", "key": "new", "value": ""}]}
        document["success"] += [{"op": "get", "key": f"v{number}"} for number in range(5)]
        self.assert_refused(self.post(document), 413, "too_large", "4194304")
        self.assertEqual(self.ask("GET", "/get?key=new").status, 404)


class OnceTests(TransactionTestCase):
    """Exactly once."""

    HEADERS = ("X-Client-Id: c", "X-Request-Seq: 1")

    def test_repeat(self) -> None:
        """A transaction that is sent again is not carried out again, and gets the first answer (B63)."""
        document = {"success": [{"op": "put", "key": "a", "value": "x"}, {"op": "range", "prefix": "", "limit": 1}]}
        answers = [self.post(document, *self.HEADERS).json() for _ in range(2)]
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0]["revision"], 3)

    def test_answer_that_was_too_large_to_keep(self) -> None:
        """Its repeat is 409 and tells the revision at which it was carried out."""
        self.each(lambda lane: lane.key_value.apply(commands.put(b"large", b"x" * 20_000)))
        document = {"success": [{"op": "get", "key": "large"}, {"op": "put", "key": "a", "value": "x"}]}
        self.assertEqual(self.post(document, *self.HEADERS).json()["revision"], 4)
        repeated = self.post(document, *self.HEADERS)
        self.assert_refused(repeated, 409, "answer_not_kept", "4")
        self.assertEqual((repeated.json()["revision"], repeated.error["outcome"]), (4, "not_applied"))

    def test_another_request(self) -> None:
        """The number of one transaction with another is 409."""
        self.post({"success": [{"op": "get", "key": "a"}]}, *self.HEADERS)
        refused = self.post({"success": [{"op": "get", "key": "b"}]}, *self.HEADERS)
        self.assert_refused(refused, 409, "sequence_reused")


class IncrementTests(TransactionTestCase):
    """``POST /v1/increment``."""

    def increment(self, body: str, *headers: str) -> Response:
        """Send one."""
        return self.ask("POST", "/v1/increment", *headers, body=body.encode())

    def test_counts(self) -> None:
        """No key counts as 0, and 1 is added where nothing else is said."""
        self.assertEqual(self.increment('{"key":"n"}').json(), {"key": "n", "value": 1, "revision": 3})
        self.assertEqual(self.increment('{"key":"n","by":-5}').json(), {"key": "n", "value": -4, "revision": 4})
        self.assertEqual(self.ask_json("GET", "/get?key=n")["value"], "-4")

    def test_once(self) -> None:
        """A repeat counts once (B63)."""
        for _ in range(3):
            answer = self.increment('{"key":"n"}', "X-Client-Id: c", "X-Request-Seq: 9").json()
            self.assertEqual(answer["value"], 1)

    def test_conflicts(self) -> None:
        """What is no number, and what would not fit, is 409 and stays as it was."""
        self.each(lambda lane: lane.key_value.apply(commands.put(b"t", b"x"), commands.put(b"m", b"%d" % (2**63 - 1))))
        self.assert_refused(self.increment('{"key":"t"}'), 409, "conflict", "number")
        self.assert_refused(self.increment('{"key":"m"}'), 409, "conflict", "64 bits")
        self.assertEqual(self.ask_json("GET", "/get?key=t")["value"], "x")

    def test_bad(self) -> None:
        """Each field that is wrong is named."""
        for body, word in (
            ("{}", "key"),
            ('{"key":"n","by":1.5}', "by"),
            ('{"key":"n","by":true}', "by"),
            ('{"key":"n","by":"1"}', "by"),
            ('{"key":"n","by":null}', "by"),
            ('{"key":"n","by":9223372036854775808}', "by"),
            ('{"key":"n","by":-9223372036854775809}', "by"),
            ('{"key":"n","by":1e400}', "JSON"),
            ('{"key":"n","by":NaN}', "JSON"),
            ('{"key":"n","amount":1}', "amount"),
            ('{"key":""}', "key"),
        ):
            self.assert_refused(self.increment(body), 400, "bad_request", word)
        self.assertEqual(self.fast.key_value.commands, [])
