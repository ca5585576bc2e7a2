//! Where the machine's power comes from.

/// True when the machine runs on battery; `None` where the kernel does not tell, or there is none.
#[must_use]
pub fn on_battery() -> Option<bool> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return on_battery_by(std::path::Path::new("/sys/class/power_supply"));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// Asks the kernel's list of supplies: mains that are on line win; else a battery that is being emptied decides.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn on_battery_by(folder: &std::path::Path) -> Option<bool> {
    let mut found = None;
    for supply in std::fs::read_dir(folder).ok()?.flatten() {
        let read = |name: &str| std::fs::read_to_string(supply.path().join(name)).unwrap_or_default();
        match read("type").trim() {
            "Mains" | "USB" | "Wireless" => match read("online").trim() {
                "1" => return Some(false),
                "0" => found = found.or(Some(false)),
                _ => {}
            },
            // A mouse has one too.
            "Battery" if read("scope").trim() != "Device" && read("status").trim() == "Discharging" => {
                found = Some(true);
            }
            _ => {}
        }
    }
    found
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn supplies_are_understood() {
        let supplies = |list: &[&[(&str, &str)]]| {
            let dir = tempfile::tempdir().unwrap();
            for (n, files) in list.iter().enumerate() {
                let folder = dir.path().join(format!("s{n}"));
                std::fs::create_dir(&folder).unwrap();
                files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
            }
            on_battery_by(dir.path())
        };
        let mains = |online| [("type", "Mains\n"), ("online", online)];
        let battery = |status| [("type", "Battery\n"), ("status", status), ("scope", "System\n")];
        assert_eq!(supplies(&[]), None);
        assert_eq!(supplies(&[&mains("1\n"), &battery("Discharging\n")]), Some(false));
        assert_eq!(supplies(&[&mains("0\n"), &battery("Discharging\n")]), Some(true));
        assert_eq!(supplies(&[&battery("Discharging\n"), &mains("0\n")]), Some(true));
        assert_eq!(supplies(&[&battery("Charging\n"), &mains("0\n")]), Some(false));
        assert_eq!(
            supplies(&[&[("type", "Battery\n"), ("status", "Discharging\n"), ("scope", "Device\n")]]),
            None
        );
        assert_eq!(on_battery_by(std::path::Path::new("/nowhere")), None);
    }
}
