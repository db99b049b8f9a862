#!/bin/sh
# Installs the programs of tests/outside/ and tests/legacy/: clients, load generators and old servers where they are
# missing (Debian), and the pinned packages. Says how long each took. No service is started or left to start.
set -eu
cd "$(dirname "$0")/outside"

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo

main() {
    command -v curl >/dev/null || install_packages curl
    python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
    command -v node >/dev/null || install_packages nodejs
    command -v npm >/dev/null || install_packages npm
    ruby -rjwt -e '' 2>/dev/null || install_packages ruby ruby-jwt
    perl -MCrypt::JWT -e '' 2>/dev/null || install_packages libcrypt-jwt-perl
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || install_packages postgresql
    command -v wrk >/dev/null || install_packages wrk
    command -v h2load >/dev/null || install_packages nghttp2-client
    command -v redis-server >/dev/null || install_packages redis-server
    command -v ab >/dev/null || install_packages apache2-utils
    [ -x /usr/sbin/apache2 ] || install_packages apache2-bin
    [ -x /usr/sbin/nginx ] || install_packages nginx
    [ -x /usr/sbin/haproxy ] || install_packages haproxy
    command -v php >/dev/null || install_packages php-cli
    command -v go >/dev/null || install_packages golang-go
    [ -e /usr/share/gocode/src/golang.org/x/oauth2 ] || install_packages golang-golang-x-oauth2-dev
    command -v java >/dev/null || install_packages default-jre-headless
    [ -e /usr/share/tomcat10/bin/bootstrap.jar ] || install_packages tomcat10-common
    if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)'; then
        echo "node $(node --version) is too old for the packages: 18 is the first that works" >&2
        exit 1
    fi
    [ -x .venv/bin/python ] || timed "virtual environment of Python" python3 -m venv .venv
    timed "packages of Python" .venv/bin/python -m pip install --quiet --requirement requirements.txt
    timed "packages of Node" npm ci --silent --no-audit --no-fund
}

# Says how long a step took.
timed() {
    step=$1 started=$(date +%s)
    shift
    "$@"
    echo "installed: $step, $(($(date +%s) - started)) s"
}

install_packages() {
    if [ -z "${lists_are_new-}" ]; then
        timed "lists of Debian's packages" $as_root apt-get update -qq
        lists_are_new=yes
    fi
    timed "$*" install_without_services "$@"
}

# Debian starts the service of a package that it installs, unless this policy forbids it.
install_without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
        $as_root chmod 755 $policy
        trap '$as_root rm -f $policy' EXIT
        trap 'exit 1' HUP INT TERM
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null
    case $1 in
        nginx) leave_disabled nginx ;;
        haproxy) leave_disabled haproxy ;;
        php-cli) leave_disabled phpsessionclean.timer ;;
    esac
}

# Not at the next start of the machine either. Without systemd only services with a script of System V are started.
leave_disabled() {
    if command -v systemctl >/dev/null; then
        $as_root systemctl --quiet disable "$1"
    elif [ -e "/etc/init.d/$1" ]; then
        $as_root update-rc.d "$1" disable
    fi
}

main
