use bytes::Bytes;
use lossproof_log::{StateChange, StateKind};

use crate::receipt::Role;

const SESSION_KEY: u8 = b's';
const VERSION: u8 = 1;
const BYTES: usize = 26;

/// What the journal holds of the latest session of a role, beside its receipts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SessionState {
    pub(super) session: u64,
    pub(super) incarnation: u64,
    pub(super) next_number: u64,
    pub(super) sealed: bool,
}

impl SessionState {
    pub(super) fn key(role: &Role) -> Bytes {
        let code = match role {
            Role::Producer | Role::UnsafeProducer => b'p',
            Role::Pipeline { .. } | Role::UnsafePipeline { .. } => b'c',
        };
        let mut key = vec![SESSION_KEY, code];
        key.extend(role.group().unwrap_or_default().as_bytes());
        key.into()
    }

    pub(super) fn change(self, role: &Role) -> StateChange {
        let mut value = vec![VERSION];
        value.extend(self.session.to_be_bytes());
        value.extend(self.incarnation.to_be_bytes());
        value.extend(self.next_number.to_be_bytes());
        value.push(u8::from(self.sealed));
        StateChange { kind: StateKind::Receipt, key: Self::key(role), value: Some(value.into()) }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            bytes.try_into().ok().map(u64::from_be_bytes)
        };
        (bytes[0] == VERSION && bytes[25] <= 1).then_some(())?;
        Some(Self {
            session: number(1)?,
            incarnation: number(9)?,
            next_number: number(17)?,
            sealed: bytes[25] == 1,
        })
    }
}
