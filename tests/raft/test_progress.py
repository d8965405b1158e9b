"""A peer's progress: three states, a bounded window, and answers that come late."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.progress import Progress, ProgressState, Window


def progress(*, next_index: int = 11, max_messages: int = 2, max_bytes: int = 100) -> Progress:
    return Progress(next_index=next_index, max_messages=max_messages, max_bytes=max_bytes)


def replicating(match_index: int = 10) -> Progress:
    made = progress()
    made.acknowledged(match_index, first_index=1)
    return made


class WindowTests(SynchronousTestCase):
    """What is under way is bounded in messages and in bytes."""

    def test_messages(self) -> None:
        """A window of two messages is full with two, and one answer may free both."""
        window = Window(max_messages=2, max_bytes=100)
        window.add(1, 1)
        self.assertFalse(window.is_full)
        window.add(2, 1)
        self.assertTrue(window.is_full)
        window.free_to(2)
        self.assertFalse(window.is_full)

    def test_bytes(self) -> None:
        """A window is full once its bytes are used up, and free again when they are answered."""
        window = Window(max_messages=9, max_bytes=10)
        window.add(1, 9)
        window.add(2, 9)
        self.assertTrue(window.is_full)
        window.free_to(1)
        self.assertFalse(window.is_full)
        window.add(3, 1)
        self.assertTrue(window.is_full)


class ProgressTests(SynchronousTestCase):
    """What answers and silence do to it."""

    def test_probe_sends_one_message(self) -> None:
        """A probe waits for its answer, or for a sign of life after it may have been lost."""
        peer = progress()
        peer.sent(last_index=12, size=20, commit_index=0)
        self.assertFalse(peer.may_send_entries)
        self.assertEqual(peer.next_index, 11)
        peer.heartbeat_answered(12)
        self.assertTrue(peer.may_send_entries)

    def test_probe_of_which_nothing_was_taken(self) -> None:
        """Who has no room for the entries of a probe gets them again with the next sign of life, and not before."""
        peer = progress()
        peer.sent(last_index=12, size=20, commit_index=0)
        peer.acknowledged(10, first_index=1)
        self.assertEqual((peer.state, peer.may_send_entries), (ProgressState.PROBE, False))
        peer.heartbeat_answered(12)
        self.assertTrue(peer.may_send_entries)
        peer.sent(last_index=12, size=20, commit_index=0)
        peer.acknowledged(11, first_index=1)
        self.assertEqual((peer.state, peer.next_index), (ProgressState.REPLICATE, 12))

    def test_probe_without_entries(self) -> None:
        """An empty probe that is acknowledged opens the pipeline."""
        peer = progress()
        peer.sent(last_index=10, size=0, commit_index=0)
        peer.acknowledged(10, first_index=1)
        self.assertEqual(peer.state, ProgressState.REPLICATE)

    def test_replicate_is_optimistic(self) -> None:
        """An acknowledged probe opens the pipeline, which runs ahead until its window is full."""
        peer = replicating()
        self.assertEqual((peer.state, peer.next_index), (ProgressState.REPLICATE, 11))
        peer.sent(last_index=12, size=20, commit_index=0)
        self.assertEqual(peer.next_index, 13)
        peer.sent(last_index=13, size=20, commit_index=0)
        self.assertFalse(peer.may_send_entries)
        self.assertTrue(peer.may_send_probe)
        peer.acknowledged(13, first_index=1)
        self.assertTrue(peer.may_send_entries)

    def test_late_rejection(self) -> None:
        """A rejection of what is acknowledged by now changes nothing, nor one of another probe than the last."""
        peer = replicating()
        self.assertFalse(peer.rejected(10, retry_index=3))
        probing = progress()
        self.assertFalse(probing.rejected(7, retry_index=3))
        self.assertTrue(probing.rejected(10, retry_index=3))
        self.assertEqual(probing.next_index, 4)

    def test_rejection_never_goes_below_match(self) -> None:
        """A rejection goes back no further than to what is acknowledged."""
        peer = replicating()
        peer.sent(last_index=14, size=20, commit_index=0)
        self.assertTrue(peer.rejected(14, retry_index=2))
        self.assertEqual((peer.state, peer.next_index), (ProgressState.PROBE, 11))

    def test_late_acknowledgement(self) -> None:
        """The match index never falls."""
        peer = replicating()
        peer.acknowledged(4, first_index=1)
        self.assertEqual((peer.match_index, peer.next_index), (10, 11))

    def test_lost(self) -> None:
        """After a broken connection everything behind the match index is sent again (B18)."""
        peer = replicating()
        peer.sent(last_index=14, size=20, commit_index=0)
        peer.lost()
        self.assertEqual((peer.state, peer.next_index, peer.may_send_entries), (ProgressState.PROBE, 11, True))

    def test_snapshot(self) -> None:
        """While a snapshot is under way nothing is sent; its acknowledgement opens the pipeline behind it."""
        peer = progress(next_index=3)
        peer.snapshot_needed(20)
        self.assertFalse(peer.may_send_entries or peer.may_send_probe)
        self.assertFalse(peer.rejected(2, retry_index=1))
        peer.acknowledged(5, first_index=15)
        self.assertEqual(peer.state, ProgressState.SNAPSHOT)
        peer.acknowledged(20, first_index=25)
        self.assertEqual((peer.state, peer.next_index), (ProgressState.REPLICATE, 21))

    def test_snapshot_not_needed_any_more(self) -> None:
        """A peer that our log reaches again needs no snapshot, however it got there."""
        peer = progress(next_index=3)
        peer.snapshot_needed(20)
        peer.acknowledged(14, first_index=15)
        self.assertEqual((peer.state, peer.next_index), (ProgressState.REPLICATE, 15))

    def test_snapshot_finished(self) -> None:
        """After the transfer the next message waits for a sign of life, whether it was delivered or not."""
        for delivered, next_index in ((True, 21), (False, 1)):
            peer = progress(next_index=3)
            peer.snapshot_needed(20)
            peer.snapshot_finished(20, delivered=delivered)
            self.assertEqual((peer.next_index, peer.may_send_probe), (next_index, False))
            peer.heartbeat_answered(30)
            self.assertTrue(peer.may_send_probe)
