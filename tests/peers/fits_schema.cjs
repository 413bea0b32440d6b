// Prints what of a JSON file does not fit a JSON schema, and fails if there is something:
//   node fits_schema.cjs SCHEMA FILE
const Ajv = require("ajv");
const { readFileSync } = require("fs");

const [schema, file] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")));
// Compose's schema mixes the words of two drafts, and has formats of its own.
const ajv = new Ajv({ allErrors: true, strict: false, validateSchema: false, logger: false });
ajv.removeKeyword("id");
const fits = ajv.compile(schema);
if (!fits(file)) {
  for (const error of fits.errors) {
    console.log(`${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`);
  }
  process.exit(1);
}
