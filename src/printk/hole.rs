//! Passing over memory that is not in the dump.
//!
//! A wrong size makes an array seem gigabytes long, and each page of it that cannot be read costs a lookup. What lies
//! behind a hole is about as far off as the hole is wide, so steps may grow with it.

/// A run of pages that could not be read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hole {
    pages: u64,
}

impl Hole {
    /// Pages that steps stay short for: 1 MiB.
    const NEAR: u64 = 256;

    /// How many pages to pass over, the one that was just met included: one at first, later one in `NEAR` of the hole
    /// so far.
    pub(super) fn step(&mut self) -> u64 {
        let pages = (self.pages / Self::NEAR).saturating_add(1);
        self.pages = self.pages.saturating_add(pages);
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_single_pages_at_first_and_gigabytes_take_few() {
        let mut hole = Hole::default();
        assert!((0..Hole::NEAR).all(|_| hole.step() == 1));
        let (mut pages, mut steps) = (0, 0);
        while pages < (2 << 30) / 4096 {
            pages += hole.step();
            steps += 1;
        }
        assert!(steps < 2500, "{steps}");
    }
}
