use super::fault::LogError;
use super::writer::Log;
use crate::ids::{LogIndex, Term};
use crate::log::HardState;
impl Log {
    pub fn restart_at(
        &mut self,
        _index: LogIndex,
        _term: Term,
        _hard_state: HardState,
    ) -> Result<(), LogError> {
        Err(LogError::NoSuchEntry)
    }
}
