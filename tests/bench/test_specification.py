"""What a load is: its keys, its mix, and how it travels."""

from __future__ import annotations

from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench.specification import STRIDE, Load, is_key_of_ours


def load(**more: object) -> Load:
    """Return a small load."""
    values: dict[str, object] = {"generator": "closed", "protocol": "rpc", "addresses": ("h:1",), **more}
    return Load(**values)  # type: ignore[arg-type]


class LoadTests(SynchronousTestCase):
    """The order to a generator."""

    def test_travels(self) -> None:
        """What is read on the other side is what was written."""
        made = load(others=("a:1", "b:2"), prefix="ä/", rate=3.5, operation="mixed", reads=0.25, reconnects=True)
        self.assertEqual(Load.from_json(made.to_json()), made)

    def test_every_key_comes_once(self) -> None:
        """Each key is used once before one comes again, also where the stride divides their number."""
        for count in (1, 2, 1000, STRIDE, 2 * STRIDE):
            made = load(keys=count, prefix="p/")
            self.assertEqual(len({made.key(number) for number in range(count)}), count)

    def test_counted_requests(self) -> None:
        """A load that counts its requests has so many keys, and begins again where there are fewer; else no end."""
        self.assertEqual([key[-1:] for key in load(keys=2, requests=5).key_stream()], [b"0", b"1", b"0", b"1", b"0"])
        self.assertEqual(len(list(islice(load(keys=2).key_stream(), 100))), 100)

    def test_mix(self) -> None:
        """Reads are spread evenly: in any hundred requests as many as were asked for, but for one."""
        for part in (0.0, 0.1, 0.5, 0.9, 1.0):
            mix = list(islice(load(operation="mixed", reads=part).mix(), 9000))
            for at in range(0, 9000, 100):
                self.assertLessEqual(abs(sum(mix[at : at + 100]) - 100 * part), 1, part)

    def test_names(self) -> None:
        """What a load would write is told from what merely begins alike."""
        made = load(prefix="p/", keys=20_000)
        self.assertTrue(all(is_key_of_ours(made.key(number).decode(), "p/") for number in range(0, 20_000, 7)))
        for name in ("p/key", "p/key123456", "p/key12345678", "p/key123456x", "p/notes", "q/key0000001", "key0000001"):
            self.assertFalse(is_key_of_ours(name, "p/"), name)
