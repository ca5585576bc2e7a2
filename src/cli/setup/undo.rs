//! What has been done so far, and how it is taken back.

/// Takes one thing back; says why it could not.
type Step<'a> = Box<dyn FnOnce() -> Result<(), String> + 'a>;

/// Steps that were done. Unless they are [kept](Undo::keep), they are undone in reverse order.
#[derive(Default)]
pub(super) struct Undo<'a>(Vec<(String, Step<'a>)>);

impl<'a> Undo<'a> {
    /// Notes how a step that was done, or was begun, is taken back. `what` names what is left if that fails.
    pub(super) fn by(&mut self, what: impl Into<String>, step: impl FnOnce() -> Result<(), String> + 'a) {
        self.0.push((what.into(), Box::new(step)));
    }

    /// From here on nothing is taken back.
    pub(super) fn keep(&mut self) {
        self.0.clear();
    }

    /// Takes everything back; tells what is left, and why. Where something stays, so does what was done before it: a
    /// repository must not lose the key that opens it.
    pub(super) fn run(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some((what, step)) = self.0.pop() {
            if !left.is_empty() {
                left.push(format!("{what}: stays too"));
            } else if let Err(reason) = step() {
                left.push(format!("{what}: {reason}"));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_last_step_goes_first_and_what_stays_keeps_what_was_before_it() {
        let order = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        undo.by("one", || {
            order.borrow_mut().push(1);
            Ok(())
        });
        undo.by("two", || Err("no".to_owned()));
        undo.by("three", || {
            order.borrow_mut().push(3);
            Ok(())
        });
        assert_eq!(undo.run(), ["two: no", "one: stays too"]);
        assert_eq!(undo.run(), [""; 0]);
        undo.by("four", || Err("never".to_owned()));
        undo.keep();
        assert_eq!(undo.run(), [""; 0]);
        drop(undo);
        assert_eq!(*order.borrow(), [3]);
    }
}
