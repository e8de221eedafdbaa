// What the page's scripts are held to; run by `make lint-page`.
import js from "@eslint/js";
import globals from "globals";

const AS_TEXT = "What the agent and its phones say is put in as text.";
const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe", "srcdoc", "createContextualFragment"];

export default [
  js.configs.recommended,
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-restricted-properties": [
        "error",
        ...MARKUP.map((property) => ({ property, message: AS_TEXT })),
        { object: "document", property: "write", message: AS_TEXT },
        { object: "document", property: "writeln", message: AS_TEXT },
        { property: "eval", message: "Nothing is run that is not a file of the page's." },
      ],
      "no-restricted-globals": ["error", { name: "localStorage", message: "A token is the tab's alone: sessionStorage." }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-unused-vars": ["error", { ignoreRestSiblings: true }], // `const { left_out, ...rest }`
      "prefer-const": "error",
      "no-var": "error",
      eqeqeq: "error",
    },
  },
];
