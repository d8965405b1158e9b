A node whose log is damaged fetches what it lacks from the other members, whoever leads, and takes part again once its log is
whole; what nobody can supply it gives up together with its vote, until a later leader has brought it up to date. A node
that is alone names the file and the offset, and does not start.
