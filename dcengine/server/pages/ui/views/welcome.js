// What to do first, where there is nothing yet: commands that run as they stand.

import { token } from "../access.js";
import { h } from "../dom.js";
import { command, firstSteps } from "../parts.js";

const MASK = "•••"; // in place of the token, which somebody may look at over a shoulder

/** The address of this engine, with this tab's token in `whole`, and without it in `shown`. */
function addresses() {
  const url = new URL(".", document.baseURI).href;
  return { url, whole: `${url}?token=${encodeURIComponent(token())}`, shown: `${url}?token=${MASK}` };
}

/** A command in which `ADDRESS` stands for the address of this engine with a token: copied whole, shown without it. */
export function addressed(text) {
  const { whole, shown } = addresses();
  return command(text.replaceAll("ADDRESS", shown), text.replaceAll("ADDRESS", whole));
}

export function welcome(place) {
  if (!place.may("submit")) {
    return firstSteps("Nothing here yet.", "Whoever has a token of the role “submit” brings jobs; they appear here by themselves.");
  }
  return firstSteps(
    "Nothing here yet. The first job:",
    "in a shell,",
    addressed('dcengine submit math:factorial 20 --wait --url "ADDRESS"'),
    "or in Python or a notebook:",
    addressed('import dcengine\n\ndcengine.connect("ADDRESS")\nprint(dcengine.submit(pow, 2, 10).result())'),
    place.may("join") && h("p", "Another machine brings its processors, for as long as this runs there:"),
    place.may("join") && addressed('dcengine join "ADDRESS"'),
    h("p", "Jobs that go through several stages make a project: ", h("strong", "New project"), " above, or ", h("code", "dcengine.Project"), " in Python."),
    h("p.hint", `What is copied has this tab's token in place of ${MASK}.`),
  );
}

/** What to do where nobody works yet. */
export function invitation(place) {
  const { url } = addresses();
  return firstSteps(
    "Nobody works here yet.",
    place.may("join") ? "A machine of yours joins, for as long as this runs there:" : "A machine joins with an address that the owner of this engine hands out:",
    place.may("join") ? addressed('dcengine join "ADDRESS"') : null,
    "An outside worker takes the tasks of one project, with a program in any language:",
    command(`dcengine worker "${url}?token=TOKEN" --project PROJECT --stage STAGE -- ./program`),
    h("p.hint", "Its TOKEN is made by ", h("code", "dcengine token create --role worker --project PROJECT"), "; an open project needs none."),
  );
}
