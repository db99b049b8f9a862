//! `gateway.yaml` → runtime types.
