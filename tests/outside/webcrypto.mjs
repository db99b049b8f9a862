// Node 18 keeps to itself what browsers and later versions of Node offer to all.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
globalThis.CryptoKey ??= webcrypto.CryptoKey;
