"""`Board`: what there is to label, what people said, and who has what before them; the page's server asks it."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import ConfigurationError, DiffalError
from lightning_diffal.labels.class_names import is_spare, tidy
from lightning_diffal.oracle.page.answers import PointAnswers
from lightning_diffal.oracle.page.cards import CARDS, PROGRESS, PROJECT, read_lines
from lightning_diffal.oracle.page.leases import Leases
from lightning_diffal.oracle.page.log import FILENAME, AnswerLog

__all__ = ["Board", "RefusedError", "RunBoard", "labelled"]

_NOTE = 2000  # characters
_NAME = 100  # characters of a class that is added
_LISTED = 60  # points in one part of a list


class RefusedError(DiffalError, ValueError):
    """What the page may not do, with the reason for the person at it."""


class Board:
    """Points to label, from any source. All methods may be called from any thread.

    Args:
        folder: for what people say.
        project: `title`, `classes`, `multilabel`, `suggest` (whether suggestions are shown before the answer),
            `num_classes` (`None`: as many as people want), and `reason` (why no class can be added).
    """

    def __init__(self, folder: Path, project: Mapping[str, Any]) -> None:
        self.folder = folder
        self.project = dict(project)
        self.log = AnswerLog(folder / FILENAME)
        self.cards: dict[str, dict[str, Any]] = {}
        self.order: list[str] = []
        self.progress: dict[str, Any] | None = None
        self.boot = secrets.token_hex(4)
        self.version = 1
        """Grows with every change that a page may want to know of."""
        self._leases = Leases()
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------------------- sources

    def refresh(self) -> None:
        """Look whether others have written something."""
        with self._lock:
            if self._look() | self.log.read():
                self.version += 1

    def _look(self) -> bool:
        """Take in new cards and news of the training; whether there were any."""
        return False

    def add_card(self, card: dict[str, Any]) -> None:
        """One more point to label."""
        if card["key"] not in self.cards:
            self.order.append(card["key"])
        self.cards[card["key"]] = card

    def media(self, key: str, part: str) -> tuple[bytes, str] | None:
        """A picture or a recording, and its media type; `None` where there is none.

        Args:
            key: of a point.
            part: `"item"`, `"thumb"`, or the number of an example beside it.
        """
        raise NotImplementedError

    def changed(self) -> None:
        """Somebody said something: a hook for sources that write labels elsewhere, too."""

    # ---------------------------------------------------------------------------------------------------- reading

    @property
    def classes(self) -> list[str]:
        """Names of all classes, those added on the page behind the others."""
        return [*self.project["classes"], *self.log.answers.classes]

    def state(self, who: str) -> dict[str, Any]:
        """Everything but the points: classes, counts and news of the training."""
        self.refresh()
        with self._lock:
            counts = dict.fromkeys(("open", "labelled", "skipped", "conflict"), 0)
            for key in self.order:
                counts[self._said(key).status] += 1
            limit = self.project.get("num_classes")
            return {
                "boot": self.boot,
                "version": self.version,
                "title": self.project["title"],
                "classes": self.classes,
                "multilabel": self.project["multilabel"],
                "suggest": self.project["suggest"],
                "addable": limit is None or len(self.classes) < limit,
                "reason": self.project.get("reason", ""),
                "counts": counts,
                "mine": self.log.answers.count_of(who),
                "can_undo": self.log.answers.last_of(who) is not None,
                "progress": None if self.progress is None else {**self.progress, "alive": _lives(self.progress)},
            }

    def next(self, who: str, avoid: frozenset[str]) -> dict[str, Any] | None:
        """The next point for a person, leased; `None` where nothing is left for them now."""
        self.refresh()
        with self._lock:
            answers = self.log.answers
            keys = (key for key in self.order if answers.of(key).status == "open")
            found = self._leases.next(keys, who, avoid)
            return None if found is None else self._shown(found, who)

    def card(self, key: str, who: str) -> dict[str, Any] | None:
        """One point, with what stands for it."""
        self.refresh()
        with self._lock:
            return self._shown(key, who) if key in self.cards else None

    def renew(self, key: str, who: str) -> bool:
        """Keep a point before a person."""
        with self._lock:
            return key in self.cards and self._leases.renew(key, who)

    def release(self, key: str, who: str) -> None:
        """Give a point back."""
        with self._lock:
            self._leases.release(key, who)

    def listed(self, status: str, start: int) -> dict[str, Any]:
        """A part of the points in one status, the last answered ones first."""
        self.refresh()
        with self._lock:
            answers = self.log.answers
            if status == "open":
                keys = [key for key in self.order if answers.of(key).status == status]
            else:
                # a dict keeps the order of first answers
                keys = [key for key in reversed(list(answers.points)) if answers.of(key).status == status]
                keys = [key for key in keys if key in self.cards]
            part = [self._brief(key) for key in keys[start : start + _LISTED]]
            return {"points": part, "total": len(keys), "start": start}

    def _brief(self, key: str) -> dict[str, Any]:
        card, point = self.cards[key], self._said(key)
        text = card.get("text") or card["alt"]
        return {
            "key": key,
            "id": card["id"],
            "kind": card["kind"],
            "alt": card["alt"],
            "text": text[:160],
            "has_media": card.get("media") is not None,
            "status": point.status,
            "labels": _named(point),
            "note": point.note,
        }

    def _said(self, key: str) -> PointAnswers:
        return self.log.answers.of(key)

    def _shown(self, key: str, who: str) -> dict[str, Any]:
        card, point = self.cards[key], self._said(key)
        hidden = not self.project["suggest"] and who not in point.standing
        shown = {name: value for name, value in card.items() if name not in ("media", "examples", "path")}
        if hidden:
            shown |= {"suggestion": None, "confidence": None}
        shown["has_media"] = card.get("media") is not None
        shown["examples"] = [
            {**{n: v for n, v in example.items() if n != "media"}, "has_media": example.get("media") is not None}
            for example in card.get("examples", [])
        ]
        mine = point.standing.get(who, ())
        shown |= {
            "version": point.version,
            "status": point.status,
            "note": point.note,
            "labels": _named(point),
            "mine": None if who not in point.standing else {"skip": mine is None, "classes": list(mine or ())},
            "taken": (self._leases.holder(key) or who) != who,
        }
        return shown

    # ---------------------------------------------------------------------------------------------------- writing

    def answer(self, who: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Write down a label, a skip or a note; it is on the disk when this returns.

        Args:
            who: the person.
            given: `uid`, `key`, `action`, and `label` (classes by number), `note` and `base` (the version seen).

        Raises:
            RefusedError: it cannot be right; nothing was written.
        """
        action, key, uid = given.get("action"), given.get("key"), given.get("uid")
        if action not in ("label", "skip", "note"):
            raise RefusedError("That is not an answer.")
        if isinstance(key, str) and key not in self.cards:
            self.refresh()
        if not isinstance(key, str) or key not in self.cards:
            raise RefusedError("That item is not asked here.")
        event: dict[str, Any] = {"uid": _uid(uid), "key": key, "id": self.cards[key]["id"], "who": who}
        event |= {"action": action, "time": round(time.time(), 3)}
        note = given.get("note")
        if note is not None:
            if not isinstance(note, str) or len(note) > _NOTE:
                raise RefusedError(f"A note has at most {_NOTE} characters.")
            event["note"] = note
        elif action == "note":
            raise RefusedError("There is no note.")
        if action != "note":
            base = given.get("base")
            if isinstance(base, bool) or not isinstance(base, int) or base < 0:
                raise RefusedError("The answer does not say what it was given to.")
            event["base"] = base
        with self._lock:
            if action == "label":
                event["label"] = self._checked(given.get("label"))
                event["names"] = [self.classes[c] for c in event["label"]]
            before = self._said(key).status
            is_new = self.log.append(event)
            if action != "note":
                self._leases.release(key, who)
            if is_new:
                self.version += 1
                self.changed()
            shown = self._shown(key, who)
            return {"saved": True, "again": not is_new, "before": before, "card": shown}

    def undo(self, who: str, uid: Any) -> dict[str, Any]:
        """Take back a person's last answer; its point is shown again.

        Raises:
            RefusedError: there is nothing to take back.
        """
        with self._lock:
            if _uid(uid) in self.log.answers.uids:
                return {"saved": True, "again": True, "card": None}
            last = self.log.answers.last_of(who)
            if last is None:
                raise RefusedError("There is nothing to undo.")
            key = last["key"]
            if key not in self.cards:
                raise RefusedError("That item is no longer here.")
            self.log.append(
                {
                    "uid": uid,
                    "key": key,
                    "id": self.cards[key]["id"],
                    "who": who,
                    "action": "undo",
                    "undoes": last["uid"],
                    "time": round(time.time(), 3),
                }
            )
            self._leases.renew(key, who)
            self.version += 1
            self.changed()
            return {"saved": True, "again": False, "card": self._shown(key, who)}

    def add_class(self, who: str, uid: Any, name: Any) -> dict[str, Any]:
        """One more class, where that can be.

        Raises:
            RefusedError: it cannot, with the reason.
        """
        words = " ".join(name.split()) if isinstance(name, str) else ""
        if not words or len(words) > _NAME:
            raise RefusedError(f"A class has a name of 1 to {_NAME} characters.")
        with self._lock:
            limit = self.project.get("num_classes")
            if limit is not None and len(self.classes) >= limit:
                raise RefusedError(self.project.get("reason") or f"There are {limit} classes, and no more.")
            if tidy(words) in map(tidy, self.classes):
                raise RefusedError(f"There is a class {words!r} already.")
            if limit is not None and is_spare(words):
                raise RefusedError(f"A class that has no name yet is called {words!r}: give this one another name.")
            self.log.append(
                {"uid": _uid(uid), "action": "class", "name": words, "who": who, "time": round(time.time(), 3)}
            )
            self.version += 1
            return {"saved": True, "classes": self.classes}

    def _checked(self, label: Any) -> list[int]:
        is_list = isinstance(label, list) and all(isinstance(c, int) and not isinstance(c, bool) for c in label)
        if not is_list or not all(0 <= c < len(self.classes) for c in label) or len(set(label)) != len(label):
            raise RefusedError("That is not a class of this project: reload the page.")
        if not self.project["multilabel"] and len(label) != 1:
            raise RefusedError("An item has one class here.")
        return sorted(label)


class RunBoard(Board):
    """The points that a run asks, from its folder; the training may be another process, or be over.

    Args:
        folder: `label` in the folder of the run.

    Raises:
        ConfigurationError: the run was not labelled on a page.
    """

    def __init__(self, folder: Path) -> None:
        try:
            project = json.loads((folder / PROJECT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(_without_page(folder.parent)) from None
        except ValueError as error:
            raise ConfigurationError(f"{folder / PROJECT} is not whole: {error}.") from None
        super().__init__(folder, project)
        self._cards_to = 0
        self._progress_at = 0
        self.refresh()

    def _look(self) -> bool:
        cards, self._cards_to = read_lines(self.folder / CARDS, self._cards_to)
        for card in cards:
            self.add_card(card)
        path = self.folder / PROGRESS
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return bool(cards)
        if changed == self._progress_at:
            return bool(cards)
        self._progress_at = changed
        self.progress = json.loads(path.read_text(encoding="utf-8"))
        return True

    def media(self, key: str, part: str) -> tuple[bytes, str] | None:
        """See `Board.media`."""
        card = self.cards.get(key)
        if card is None:
            return None
        source = card
        if part.isdecimal():
            examples = card.get("examples", [])
            if int(part) >= len(examples):
                return None
            source = examples[int(part)]
        about = source.get("media")
        # the name comes from a card that the training wrote, and is a bare one
        if about is None or Path(about["file"]).name != about["file"]:
            return None
        try:
            return (self.folder / "media" / about["file"]).read_bytes(), about["type"]
        except OSError:
            return None


def _without_page(run_dir: Path) -> str:
    """What to do about a run that does not ask on a page."""
    words = (
        f"{run_dir} does not hold questions for a labelling page. Run its training again with the same `run_dir` and "
        "`ActiveLearning(oracle=PageOracle())`: what is open is then asked on a page, and no answer is lost."
    )
    tables = sorted((run_dir / "queries").glob("query-*.csv")) or sorted((run_dir / "queries").glob("query-*.jsonl"))
    if not tables:
        return words
    return f"{words} Or, since this run asks through files, fill in the column `label` of {tables[-1]}."


def _named(point: PointAnswers) -> list[dict[str, Any]]:
    """What stands, each different answer once, without saying who gave it."""
    values = list(dict.fromkeys(point.standing.values()))
    return [{"skip": value is None, "classes": list(value or ())} for value in values]


def _lives(progress: Mapping[str, Any]) -> bool:
    """Whether the process that trains is there; where that cannot be told, whether it said something lately."""
    if os.name != "posix":
        return bool(time.time() - progress["time"] < 120)
    try:
        os.kill(progress["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _uid(uid: Any) -> str:
    if not isinstance(uid, str) or not 8 <= len(uid) <= 64 or not uid.isascii() or not uid.isprintable():
        raise RefusedError("The answer has no name by which it could be told from another one.")
    return uid


def labelled(board: Board) -> Iterator[tuple[dict[str, Any], PointAnswers]]:
    """Cards with what stands for them, those that somebody said something of."""
    for key in board.order:
        point = board.log.answers.of(key)
        if point.version:
            yield board.cards[key], point
