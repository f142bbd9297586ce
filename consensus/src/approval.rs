//! Validators' approvals of checkpoints and the certificates they make
//! (protocol §9).
