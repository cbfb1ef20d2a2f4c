// How an item is drawn. Everything that comes from the data becomes text or an attribute, never markup.

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function table(rows) {
  return element(
    "table",
    {},
    ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value))),
  );
}

export function drawn(card, source) {
  const parts = [];
  if (card.kind === "image") {
    const image = element("img", { alt: card.alt, decoding: "async" });
    if (card.pixels && Math.max(...card.pixels) <= 96) image.classList.add("small"); // larger squares show no more
    image.addEventListener("error", () => {
      image.replaceWith(element("p", { class: "caption" }, `The image of ${card.id} cannot be shown.`));
    });
    if (card.has_media) image.src = source;
    else if (card.url) parts.push(element("p", { class: "caption" }, card.url));
    if (card.has_media) parts.push(image);
  } else if (card.kind === "audio" && card.has_media) {
    parts.push(element("audio", { controls: true, preload: "auto", src: source, title: card.alt, "aria-label": card.alt }));
    if (!card.text) parts.push(element("p", { class: "caption" }, card.alt));
  } else if (card.kind === "text") {
    parts.push(element("div", { class: "text", dir: "auto" }, card.text ?? ""));
  }
  if ((card.kind === "image" || card.kind === "audio") && card.text) {
    parts.push(element("p", { class: "caption", dir: "auto" }, card.text));
  }
  if (card.rows?.length) parts.push(table(card.rows));
  return parts;
}

export function curve(points, name) {
  const space = "http://www.w3.org/2000/svg";
  const values = points.map((point) => point.metrics[name]);
  const counts = points.map((point) => point.n);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [Math.min(...counts), Math.max(...counts)];
  const x = (n) => (last > first ? (100 * (n - first)) / (last - first) : 50);
  const y = (v) => (high > low ? 30 - (28 * (v - low)) / (high - low) : 15);
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 32");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name} from ${values[0].toFixed(3)} to ${values.at(-1).toFixed(3)}`);
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", points.map((point, place) => `${x(counts[place])},${y(values[place])}`).join(" "));
  svg.append(line);
  return svg;
}
