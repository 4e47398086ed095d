// Example values for a JSON Schema.

import { follow } from "./parsed.js";

const FORMATS = {
  "date-time": () => new Date().toISOString(),
  date: () => new Date().toISOString().slice(0, 10),
  email: () => "someone@example.org",
  uri: () => "https://example.org/",
  uuid: () => crypto.randomUUID?.() ?? "123e4567-e89b-42d3-a456-426614174000",
  ipv4: () => "127.0.0.1",
  ipv6: () => "::1",
  binary: () => "",
};

const DEEPEST = 4;

export function sample(schema, root, depth = 0) {
  while (schema.$ref) {
    schema = follow(root, schema.$ref);
  }
  if ("const" in schema) return schema.const;
  if (schema.examples?.length) return schema.examples[0];
  if ("default" in schema) return schema.default;
  if (schema.enum) return schema.enum.find((value) => value !== null) ?? null;
  if (schema.allOf) return sample(merged(schema.allOf, root), root, depth);
  const choice = (schema.oneOf ?? schema.anyOf)?.find((one) => one.type !== "null");
  if (choice) return sample({ ...schema, oneOf: undefined, anyOf: undefined, ...choice }, root, depth);
  const types = [schema.type ?? (schema.properties ? "object" : undefined)].flat();
  return byType(types.find((type) => type !== "null"), schema, root, depth);
}

function byType(type, schema, root, depth) {
  switch (type) {
    case "object": return object(schema, root, depth);
    case "array": return array(schema, root, depth);
    case "integer": return Math.ceil(number(schema, 1));
    case "number": return number(schema, 0.5);
    case "boolean": return true;
    case "string": return text(schema);
    case undefined: return "anything";
    default: return null;
  }
}

function object(schema, root, depth) {
  const found = {};
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (depth < DEEPEST || schema.required?.includes(name)) {
      found[name] = sample(property, root, depth + 1);
    }
  }
  return found;
}

function array(schema, root, depth) {
  if (Array.isArray(schema.items)) {
    return schema.items.map((item) => sample(item, root, depth + 1));
  }
  const length = Math.max(schema.minItems ?? (depth < DEEPEST ? 1 : 0), 0);
  const item = () => (schema.items ? sample(schema.items, root, depth + 1) : "anything");
  return Array.from({ length: Math.min(length, schema.maxItems ?? length) }, item);
}

function number(schema, step) {
  const low = schema.minimum ?? (schema.exclusiveMinimum ?? -step) + step;
  const high = schema.maximum ?? (schema.exclusiveMaximum ?? Infinity) - step;
  return Math.min(Math.max(low, schema.minimum ?? low), high);
}

function text(schema) {
  if (schema.format in FORMATS) return FORMATS[schema.format]();
  const word = schema.minLength > 4 ? "text ".repeat(Math.ceil(schema.minLength / 5)) : "text";
  return word.slice(0, Math.max(schema.minLength ?? 0, Math.min(word.length, schema.maxLength ?? 99)));
}

function merged(schemas, root) {
  const found = { type: "object", properties: {}, required: [] };
  for (let schema of schemas) {
    while (schema.$ref) schema = follow(root, schema.$ref);
    Object.assign(found.properties, schema.properties);
    found.required.push(...(schema.required ?? []));
  }
  return found;
}
