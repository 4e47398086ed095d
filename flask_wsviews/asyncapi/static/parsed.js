// The document as the renderer wants it: as AsyncAPI's own parser leaves it, with references
// resolved. The parser itself compiles code at run time, which a strict content policy forbids.

const ID = "x-parser-unique-object-id";

export function parsed(spec) {
  const copy = structuredClone(spec);
  for (const [name, channel] of Object.entries(copy.channels)) {
    channel[ID] = name;
  }
  for (const [name, operation] of Object.entries(copy.operations)) {
    operation[ID] = name;
  }
  for (const [name, message] of Object.entries(copy.components.messages)) {
    message[ID] = name;
  }
  for (const [name, schema] of Object.entries(copy.components.schemas)) {
    schema["x-parser-schema-id"] = name;
  }
  resolve(copy, copy, [], new Set());
  copy["x-parser-spec-parsed"] = true;
  copy["x-parser-api-version"] = 3;
  return copy;
}

export function follow(root, pointer) {
  return pointer
    .slice(2)
    .split("/")
    .reduce((found, part) => found[part.replace(/~1/g, "/").replace(/~0/g, "~")], root);
}

function resolve(root, value, path, done) {
  if (value === null || typeof value !== "object" || done.has(value)) {
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    if (item && typeof item === "object") {
      value[key] = target(root, item, [...path, value]);
      resolve(root, value[key], [...path, value], done);
    }
  }
  done.add(value);
}

function target(root, item, path) {
  let found = item;
  while (typeof found.$ref === "string") {
    found = follow(root, found.$ref);
  }
  if (found !== item && path.includes(found)) {
    // Rendering a recursive schema would never end.
    return { type: "object", title: found["x-parser-schema-id"], description: "Recursive." };
  }
  return found;
}
