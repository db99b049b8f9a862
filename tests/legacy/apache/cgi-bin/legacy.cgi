#!/usr/bin/perl
# A script of the time before frameworks: it knows its address from the server, and redirects to it in full.
use strict;
use warnings;

my $own = "http://$ENV{SERVER_NAME}:$ENV{SERVER_PORT}$ENV{SCRIPT_NAME}";
my $action = $ENV{PATH_INFO} // '/';

# Without a length the body ends where the input ends.
local $/;
binmode STDIN;
my $body = $ENV{REQUEST_METHOD} eq 'POST' ? <STDIN> // '' : '';

sub page { print "Content-Type: text/plain\n", map({ "$_\n" } @_[1 .. $#_]), "\n", $_[0], "\n" }

if ($action eq '/login') {
    my ($user) = $body =~ /user=(\w+)/;
    print "Status: 302 Found\nSet-Cookie: session=$user; Path=$ENV{SCRIPT_NAME}; HttpOnly\n";
    print "Set-Cookie: site=everywhere; Domain=legacy.internal; Path=/\nLocation: $own/home?from=login\n\n";
} elsif ($action eq '/home') {
    page("cookies: " . join(', ', sort split /; */, $ENV{HTTP_COOKIE} // ''));
} elsif ($action eq '/relative') {
    print "Status: 303 See Other\nLocation: home\n\n";
} elsif ($action eq '/from-the-root') {
    print "Status: 302 Found\nLocation: $ENV{SCRIPT_NAME}/home\n\n";
} elsif ($action eq '/inside') {
    # The server itself answers with that page.
    print "Location: /docs/page.html\n\n";
} elsif ($action eq '/wait') {
    page('one moment', "Refresh: 0; url=$own/home");
} elsif ($action eq '/upload') {
    page("got " . length($body) . " bytes, sum " . unpack('%32C*', $body));
} elsif ($action eq '/logout') {
    print "Status: 302 Found\nSet-Cookie: session=; Path=$ENV{SCRIPT_NAME}; Expires=Thu, 01 Jan 1970 00:00:00 GMT\n";
    print "Location: $own/home\n\n";
} else {
    page("$ENV{REQUEST_METHOD} $action");
}
