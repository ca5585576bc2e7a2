//! The property list of launchd.

use super::{Error, FOLDERS, MARK, Scope, Service, line};

/// The job's name.
pub(super) const LABEL: &str = "org.exuvia.daemon";

/// The file. `folders`: how many folders were made for it.
pub(super) fn property_list(service: &Service, scope: &Scope, folders: usize) -> Result<String, Error> {
    let program = escaped(line("the program's path", service.program.as_os_str())?);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- {MARK}; `exuvia service uninstall` removes it. {FOLDERS} {folders} -->\n\
         <plist version=\"1.0\">\n<dict>\n\
         \t<key>Label</key>\n\t<string>{LABEL}</string>\n\
         \t<key>ProgramArguments</key>\n\t<array>\n\t\t<string>{program}</string>\n\t\t<string>daemon</string>\n\t</array>\n"
    );
    if let Scope::System { user } = scope {
        text += &format!(
            "\t<key>UserName</key>\n\t<string>{}</string>\n",
            escaped(line("the user", user.as_ref())?)
        );
    }
    if !service.environment.is_empty() {
        text += "\t<key>EnvironmentVariables</key>\n\t<dict>\n";
        for (name, value) in &service.environment {
            let value = escaped(line(name, value)?);
            text += &format!("\t\t<key>{name}</key>\n\t\t<string>{value}</string>\n");
        }
        text += "\t</dict>\n";
    }
    text += "\t<key>RunAtLoad</key>\n\t<true/>\n\
             \t<key>KeepAlive</key>\n\t<dict>\n\t\t<key>SuccessfulExit</key>\n\t\t<false/>\n\t</dict>\n\
             \t<key>ThrottleInterval</key>\n\t<integer>30</integer>\n\
             \t<key>ExitTimeOut</key>\n\t<integer>10</integer>\n\
             \t<key>Umask</key>\n\t<integer>63</integer>\n";
    if service.low_priority {
        text += "\t<key>ProcessType</key>\n\t<string>Background</string>\n\
                 \t<key>LowPriorityIO</key>\n\t<true/>\n\
                 \t<key>Nice</key>\n\t<integer>10</integer>\n";
    }
    Ok(text + "</dict>\n</plist>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_cannot_leave_their_place() {
        let mut service = Service {
            program: "/Users/a & b/<exuvia>".into(),
            environment: vec![("EXUVIA_REPO", "</string><key>x".into())],
            writes: Vec::new(),
            low_priority: false,
        };
        let text = property_list(&service, &Scope::User, 0).unwrap();
        assert!(text.contains("<string>/Users/a &amp; b/&lt;exuvia&gt;</string>"), "{text}");
        assert!(text.contains("<string>&lt;/string&gt;&lt;key&gt;x</string>"), "{text}");
        assert!(!text.contains("UserName") && !text.contains("LowPriorityIO"), "{text}");
        assert_eq!(text.matches("<dict>").count(), text.matches("</dict>").count());
        let root = Scope::System { user: "root".to_owned() };
        assert!(property_list(&service, &root, 0).unwrap().contains("<string>root</string>"));
        service.environment = vec![("EXUVIA_REPO", "a\nb".into())];
        assert!(property_list(&service, &Scope::User, 0).is_err());
    }
}
