// Does not compile unless the generated types know decisions and errors.
import type { Problem, authorizeResponse } from "./orval";
import type { components, paths } from "./types";

export function reasonOf(response: authorizeResponse): string | undefined {
  if (response.status === 200) return response.data.allowed ? undefined : response.data.code;
  const problem: Problem = response.data;
  return problem.code;
}

type Refusal = paths["/v1/authorize"]["post"]["responses"][403]["content"]["application/problem+json"];

export const codeOf = (refusal: Refusal): components["schemas"]["Code"] => refusal.code;
