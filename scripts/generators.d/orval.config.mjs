// One file with all types and functions, for the fetch that browsers and Node.js have.
export default { kavach: { input: "./openapi.json", output: { target: "./orval.ts", client: "fetch" } } };
