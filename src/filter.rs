//! A quick "no" for names: of the hundred thousand names that one pass goes over, a hundred are wanted.

use crate::bytes::index;

/// The lengths that wanted names have, by their first character.
pub(crate) struct NameFilter {
    lens: [u64; 256],
}

impl NameFilter {
    pub(crate) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut filter = NameFilter { lens: [0; 256] };
        for name in names {
            filter.add(name.as_bytes().first().copied().unwrap_or(0), name.len());
        }
        filter
    }

    /// Lets names through that start with `first` and are `len` bytes long.
    pub(crate) fn add(&mut self, first: u8, len: usize) {
        if let Some(lens) = self.lens.get_mut(usize::from(first)) {
            *lens |= Self::bit(len);
        }
    }

    /// False for a name that is certainly not wanted.
    pub(crate) fn may_be_wanted(&self, first: u8, len: usize) -> bool {
        let lens = self.lens.get(index(u64::from(first))).copied();
        lens.unwrap_or(0) & Self::bit(len) != 0
    }

    /// All lengths of 63 and more share a bit.
    fn bit(len: usize) -> u64 {
        1_u64 << u32::try_from(len).unwrap_or(63).min(63)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_passes_and_most_else_does_not() {
        let long = "a_name_that_is_longer_than_the_sixty_three_bytes_which_one_word_tells_apart";
        let filter = NameFilter::new(["panic", "pid", long].into_iter());
        assert!(filter.may_be_wanted(b'p', 5) && filter.may_be_wanted(b'p', 3));
        assert!(filter.may_be_wanted(b'a', long.len()) && filter.may_be_wanted(b'a', 63));
        assert!(!filter.may_be_wanted(b'p', 4) && !filter.may_be_wanted(b'q', 5));
        assert!(!filter.may_be_wanted(0, 0));
    }
}
