// @ts-check
// The picture as a file, SVG or PNG, as it looks on the page.
import { button } from "./parts.js";

const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "font-family",
  "font-size", "font-weight", "text-anchor", "dominant-baseline", "visibility", "display", "mix-blend-mode"];

/** A copy of a picture that needs no style sheet: each node has its own looks.
 * @param {SVGSVGElement} picture */
function standing(picture) {
  const copy = /** @type {SVGSVGElement} */ (picture.cloneNode(true));
  const all = [...picture.querySelectorAll("*")];
  [...copy.querySelectorAll("*")].forEach((node, place) => {
    const looks = getComputedStyle(all[place]);
    node.setAttribute("style", KEPT.map((name) => `${name}:${looks.getPropertyValue(name)}`).join(";"));
  });
  const { width, height } = picture.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.style.background = getComputedStyle(picture.closest(".pl-root") ?? picture).backgroundColor;
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

/** @param {string} name @param {Blob} blob */
function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}

/** Draw a picture at twice its size, for print. @param {ReturnType<typeof standing>} picture */
async function png({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width * 2, height * 2];
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((/** @type {(blob: Blob | null) => void} */ done) => canvas.toBlob(done, "image/png"));
}

/** Two buttons that save the picture of `root`. @param {Element} root */
export function pictureButtons(root) {
  const picture = () => root.querySelector("svg.pl-picture");
  return [
    button("Save SVG", () => {
      const found = picture();
      if (found instanceof SVGSVGElement) save("schedule.svg", new Blob([standing(found).text], { type: "image/svg+xml" }));
    }),
    button("Save PNG", async () => {
      const found = picture();
      const blob = found instanceof SVGSVGElement ? await png(standing(found)) : null;
      if (blob) save("schedule.png", blob);
    }),
  ];
}
