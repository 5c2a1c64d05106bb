//! Page tables of x86_64, as the crashed kernel had them. Intel SDM volume 3, "Paging".

use super::crash::{Crash, PAGE};

/// How the tables are made.
#[derive(Clone, Copy)]
pub struct Tables {
    /// 4, or 5 with LA57.
    pub levels: u32,
    /// The linear maps use 2 MiB pages.
    pub huge: bool,
    /// A bit that is set in every address of an entry (AMD memory encryption), or 0.
    pub sme_mask: u64,
}

const LARGE: u64 = 1 << 21;

impl Tables {
    /// Four levels and pages of 4 KiB.
    pub const SMALL: Tables = Tables {
        levels: 4,
        huge: false,
        sme_mask: 0,
    };

    /// Adds tables for all that was placed so far, and the keys that lead to them.
    pub fn add(self, crash: &mut Crash) {
        let root_va = crash.place_in_image(PAGE, PAGE);
        crash.key(format_args!("SYMBOL(swapper_pg_dir)={root_va:x}"));
        crash.key(format_args!("SYMBOL(init_top_pgt)={root_va:x}"));
        crash.key(format_args!(
            "NUMBER(pgtable_l5_enabled)={}",
            u32::from(self.levels == 5)
        ));
        crash.key(format_args!("NUMBER(sme_mask)={}", self.sme_mask as i64));
        crash.key(format_args!("NUMBER(KERNEL_IMAGE_SIZE)=1073741824"));
        let root = crash.physical(root_va);
        let machine = crash.machine;
        let linear: Vec<u64> = crash.pages.keys().map(|page| page * PAGE).collect();
        for pa in linear {
            let image = crash
                .in_image(pa)
                .then(|| machine.image_va + (pa - machine.image_pa));
            for va in [Some(machine.direct_va + pa), image].into_iter().flatten() {
                let large = self.huge;
                let (va, pa) = if large {
                    (va & !(LARGE - 1), pa & !(LARGE - 1))
                } else {
                    (va, pa)
                };
                self.map(crash, root, va, pa, large);
            }
        }
        for (va, pa) in crash.scattered.clone() {
            self.map(crash, root, va * PAGE, pa * PAGE, false);
        }
    }

    fn map(self, crash: &mut Crash, root: u64, va: u64, pa: u64, large: bool) {
        let mut table = root;
        let last = if large { 2 } else { 1 };
        for level in (last..=self.levels).rev() {
            let slot = table + 8 * (va >> (12 + 9 * (level - 1)) & 511);
            if level == last {
                // Present, writable, accessed, dirty, never to be executed, and the page size bit.
                let flags = 0x63 | 1 << 63 | if large { 1 << 7 } else { 0 };
                return put(crash, slot, pa | flags | self.sme_mask);
            }
            let entry = get(crash, slot);
            table = if entry & 1 == 0 {
                let new = crash.place_in_ram(PAGE, PAGE) - crash.machine.direct_va;
                put(crash, slot, new | 0x67 | self.sme_mask);
                new
            } else {
                entry & !self.sme_mask & 0x000f_ffff_ffff_f000
            };
        }
    }
}

fn get(crash: &Crash, pa: u64) -> u64 {
    let at = (pa % PAGE) as usize;
    let page = &crash.pages[&(pa / PAGE)];
    u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
}

fn put(crash: &mut Crash, pa: u64, value: u64) {
    let at = (pa % PAGE) as usize;
    let page = crash.pages.get_mut(&(pa / PAGE)).unwrap();
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
