import { ColloquyError } from "../errors.ts";

/** A folder that cannot be verified: unreadable, damaged, or not in the format of docs/verify.md. Nothing was changed. */
export class VerifyInputError extends ColloquyError {
  readonly code = "ERR_VERIFY_INPUT";
}
