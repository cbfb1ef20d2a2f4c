// Answers that wait to be sent. Each is kept under a key of its own until the server says that it is on its disk, so
// that a closed tab, a lost connection or a restarted server loses none; the server knows each by its uid and counts it
// once, however often it arrives.

const PREFIX = "diffal:answer:";

export function newUid() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function post(path, content) {
  const response = await fetch(path, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-Diffal": "1" },
    body: JSON.stringify(content),
  });
  let given = {};
  try {
    given = await response.json();
  } catch {
    given = {};
  }
  return { status: response.status, given };
}

export class Queue {
  constructor(listener) {
    this.listener = listener; // { changed(), saved(answer, given), refused(answer, words) }
    this.sending = null;
    this.pause = 0;
    this.timer = 0;
    this.memory = new Map(); // where the browser keeps nothing
    this.locked = false; // the token is not known here
    window.addEventListener("online", () => this.flush(true));
  }

  keys() {
    const found = new Set(this.memory.keys());
    try {
      for (let place = 0; place < localStorage.length; place += 1) {
        const key = localStorage.key(place);
        if (key !== null && key.startsWith(PREFIX)) found.add(key);
      }
    } catch {
      // memory only
    }
    return [...found].sort();
  }

  read(key) {
    if (this.memory.has(key)) return this.memory.get(key);
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  }

  get size() {
    return this.keys().length;
  }

  points() {
    return this.keys().map((key) => this.read(key)?.key).filter(Boolean);
  }

  push(answer) {
    const key = `${PREFIX}${Date.now().toString().padStart(15, "0")}:${answer.uid}`;
    this.memory.set(key, answer);
    try {
      localStorage.setItem(key, JSON.stringify(answer));
    } catch {
      // a full or forbidden store: it stays in memory until it is sent
    }
    this.listener.changed();
    return this.flush(true);
  }

  drop(key) {
    this.memory.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // nothing is kept there
    }
  }

  takeBack() {
    // The last answer, if it was not sent: it is as if it had not been given.
    const key = this.keys().pop();
    if (key === undefined || this.sending !== null) return null;
    const answer = this.read(key);
    this.drop(key);
    this.listener.changed();
    return answer;
  }

  flush(now = false) {
    if (now) this.pause = 0;
    if (this.sending === null) {
      clearTimeout(this.timer);
      this.sending = this.send().finally(() => {
        this.sending = null;
        this.listener.changed();
        if (this.size > 0) {
          this.pause = Math.min(15000, this.pause === 0 ? 1000 : this.pause * 2);
          this.timer = setTimeout(() => this.flush(), this.pause);
        }
      });
    }
    return this.sending;
  }

  async send() {
    for (let key = this.keys()[0]; key !== undefined; key = this.keys()[0]) {
      const answer = this.read(key);
      if (answer === null) {
        this.drop(key);
        continue;
      }
      let result;
      try {
        result = await post("/api/answer", answer);
      } catch {
        return; // no connection: later
      }
      this.locked = result.status === 403;
      if (result.status === 200) {
        this.drop(key);
        this.pause = 0;
        this.listener.saved(answer, result.given);
      } else if ([400, 404, 409, 413, 415].includes(result.status)) {
        this.drop(key);
        this.listener.refused(answer, result.given.error ?? `The server refused it (${result.status}).`);
      } else {
        return; // busy, full, or another server: later
      }
    }
  }
}
