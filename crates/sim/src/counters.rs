//! What must happen now and then: a simulation proves nothing about a situation that it never gets into.

macro_rules! counters {
    (
        sessions { $($name:ident $text:literal $least:literal,)* }
        channels { $($channel:ident $channel_text:literal $channel_least:literal,)* }
    ) => {
        /// A situation that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $(#[doc = $text] $name,)* $(#[doc = $channel_text] $channel,)* }

        /// Name, and how often it must come at least in 10,000 seeds.
        pub const COUNTERS: &[(Counter, &str, u64)] = &[
            $((Counter::$name, $text, $least),)*
            $((Counter::$channel, $channel_text, $channel_least),)*
        ];

        impl Counter {
            /// Whether worlds with channels must show it, and not those of sessions alone.
            pub fn is_of_channels(self) -> bool {
                match self {
                    $(Self::$name => false,)*
                    $(Self::$channel => true,)*
                }
            }
        }
    };
}

counters! {
    sessions {
        Duplicate "duplicate frame suppressed" 100,
        Replay "frame sent again after a cut" 100,
        Resumed "session resumed" 100,
        Fenced "fence with both sockets alive" 100,
        LateRecord "late record of a fenced or closed socket" 100,
        Stale "hello later than that of a newer socket" 100,
        LostWelcome "Welcome lost" 100,
        Expired "reset: expired" 100,
        Overflow "reset: overflow" 100,
        Restart "reset: restart (epoch mismatch)" 100,
        Unknown "reset: unknown" 100,
        Backpressure "back-pressure" 100,
        CutInParts "cut inside a message in parts" 100,
        LargeDelivered "message in parts delivered" 100,
        Rekey "key replaced" 100,
        RekeyResumed "key replaced on a resumed connection" 100,
        KeyedAgain "keyed call sent again after a reset" 100,
        Deduplicated "keyed call known again" 100,
        CarriedOver "message carried over a reset" 100,
        Unconfirmed "message listed as unconfirmed" 100,
        Suspended "suspended client" 100,
        DeadToClient "half-open found by the client" 100,
        DeadToServer "half-open found by the server" 100,
        Drain "drain" 100,
        Kill "server killed" 100,
        VolatileDropped "volatile dropped" 100,
        VolatileDelivered "volatile delivered" 100,
        StreamAcross "stream across a cut" 100,
        StreamEnded "stream complete" 100,
        ReceiptAcross "receipt across a cut" 100,
        CallAcross "call answered across a cut" 100,
        LateAnswer "answer to a call of a session that is gone" 100,
        TooManyCalls "too many calls" 100,
        TimedOut "call timed out" 100,
        Cancelled "call cancelled" 100,
        Withdrawn "call withdrawn before it was sent" 100,
        CallUnknown "call settled as unknown" 100,
        NotSent "call settled as not sent" 100,
        Stranger "stranger asked for a session" 100,
        OtherSubject "owner came back as another subject" 100,
        Evicted "parked session evicted" 100,
        Corrupted "corrupted record refused" 100,
        ConnectTimeout "connection attempt timed out" 100,
        DecisionTimeout "decision came too late" 50,
        Congested "socket takes no more" 100,
        LimitOne "a limit of one" 100,
        Closed "client closed on purpose" 100,
        ClosedByServer "closed by the server" 100,
        Plain "world without encryption" 100,
        Renewed "identity renewed on an open connection" 100,
        Lapsed "identity expired on an open connection" 100,
        NothingToShow "client had nothing to show" 100,
        Refused "expired identity refused" 100,
        Became "client became another subject on an open connection" 50,
    }
    channels {
        Opened "channel opened for the first time" 100,
        Recovered "channel recovered" 100,
        RecoveredMissed "channel recovered, and something was missed" 100,
        GapRecreated "gap: recreated" 100,
        GapDiverged "gap: diverged" 100,
        GapReused "gap: diverged, the offset belongs to another entry" 100,
        GapTrimmed "gap: trimmed" 100,
        BegunAnew "channel begun anew on one connection" 100,
        Racing "entry appended while a channel was being opened" 100,
        OutOfTheLog "read on in the log: slow, or a word was missing" 100,
        InboxFull "more words than wait for a session" 100,
        WordLost "word of an entry lost" 100,
        Resent "word of what a read had found already" 100,
        EntryHeard "entry heard" 100,
        LeftOut "entry left out by a filter" 100,
        OwnLeftOut "own entry left out" 100,
        LargeEntry "entry in parts heard" 100,
        CutInEntry "cut inside an entry in parts" 100,
        SnapshotKept "snapshot kept" 100,
        SnapshotHeard "snapshot heard" 100,
        ChannelRemoved "channel removed" 100,
        SameDisk "restart with the same disk" 100,
        OldDisk "restart with an old disk" 100,
        EmptyDisk "restart with an empty disk" 100,
        Unfollowed "channel followed no longer" 100,
        FollowedOn "channel followed again from where it was seen" 100,
        ScopeTaken "scope taken from who follows" 100,
        OpenForbidden "opening without a scope refused" 100,
        WriteForbidden "write without a scope refused" 100,
        ScopeTakenUnderWay "scope taken while a write waited" 100,
        WriteDone "write answered" 100,
        WriteAcross "write answered across a cut" 100,
        WriteRepeated "write with a key known again" 100,
        WriteUnknown "write settled as unknown" 100,
        Held "channel held" 100,
        HeldAcross "channel held across a cut" 100,
        FollowedInstead "channel followed in another way" 100,
        MemberEntered "member entered" 100,
        MemberTwice "member entered once more" 100,
        MemberAway "member away" 100,
        MemberBack "member back" 100,
        MemberLate "member did not come back in time" 100,
        MemberLeft "member left" 100,
        MembersHeard "members heard" 100,
        MembersHeardHeld "members heard while the channel was held" 100,
    }
}

/// How often each came.
#[derive(Clone, Debug)]
pub struct Counters([u64; COUNTERS.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; COUNTERS.len()])
    }
}

impl Counters {
    /// Once more.
    pub fn add(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }

    /// How often it came.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// All of another's too.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(ours, theirs)| *ours += theirs);
    }

    /// The same from its numbers, in the order of [`COUNTERS`].
    pub fn from_numbers(numbers: &[u64]) -> Option<Self> {
        numbers.try_into().ok().map(Self)
    }

    /// The numbers, in the order of [`COUNTERS`].
    pub fn numbers(&self) -> &[u64] {
        &self.0
    }
}
