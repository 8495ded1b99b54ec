#!/usr/bin/perl
# A service manager, as small as the tests of one need it: holds a listening socket on 127.0.0.1,
# passes it to the command (LISTEN_FDS), starts that again whenever it ends, and hears what it tells
# (NOTIFY_SOCKET). perl, because what is needed is a socket that nobody accepts from, and datagrams
# on a Unix socket.
#
#   perl manager.pl DIRECTORY NAME COMMAND...
#
# Says on standard output, a line each: "port N", "started PID", "ended STATUS" (as wait(2) has it),
# "notify TEXT" (newlines as spaces). SIGTERM goes to the command, which is not started again then.
use strict;
use warnings;
use Errno qw(EINTR);
use POSIX ();
use Socket;

my ($directory, $name, @command) = @ARGV;
$| = 1;

socket(my $listener, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
bind($listener, sockaddr_in(0, INADDR_LOOPBACK)) or die "bind: $!";
listen($listener, 1024) or die "listen: $!";
my ($port) = sockaddr_in(getsockname($listener));
print "port $port\n";

socket(my $heard, PF_UNIX, SOCK_DGRAM, 0) or die "socket: $!";
bind($heard, sockaddr_un("$directory/notify")) or die "bind: $!";

my ($stopping, $pid) = (0, 0);
$SIG{TERM} = sub { $stopping = 1; kill 'TERM', $pid if $pid; };
$SIG{CHLD} = sub { };

sub start {
    $pid = fork();
    die "fork: $!" unless defined $pid;
    if ($pid == 0) {
        # Perl would close it at exec, as it does all above 2.
        POSIX::dup2(fileno($listener), 3) if fileno($listener) != 3;
        open(my $passed, '+<&=', 3) or die "fd 3: $!";
        use Fcntl;
        fcntl($passed, F_SETFD, 0) or die "fcntl: $!";
        @ENV{qw(LISTEN_FDS LISTEN_FDNAMES LISTEN_PID NOTIFY_SOCKET)} =
            (1, $name, $$, "$directory/notify");
        @ENV{qw(WATCHDOG_PID)} = ($$) if $ENV{WATCHDOG_USEC};
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    print "started $pid\n";
}

sub hear {
    my $bits = '';
    vec($bits, fileno($heard), 1) = 1;
    return unless select($bits, undef, undef, 0.05) > 0;
    my $text;
    return unless defined recv($heard, $text, 4096, 0);
    $text =~ tr/\n/ /;
    print "notify $text\n";
}

start();
for (;;) {
    hear();
    next if waitpid($pid, POSIX::WNOHANG()) <= 0;
    my $status = $?;
    1 while defined hear_rest();
    print "ended $status\n";
    last if $stopping;
    start();
}

# What was sent before the end.
sub hear_rest {
    my $bits = '';
    vec($bits, fileno($heard), 1) = 1;
    return undef unless select($bits, undef, undef, 0) > 0;
    hear();
    return 1;
}
