#!/bin/sh
# Installs the real servers and clients that the tests run against, where they are missing. Their own services are not
# started: the tests start each with a configuration of its own.
set -eu

need=
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
want() { have "$1" || need="$need $2"; }

want cc gcc
want redis-server redis-server
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
want postfix postfix
want squid squid
want danted dante-server
want tinyproxy tinyproxy
want microsocks microsocks
want privoxy privoxy
want swaks swaks
want curl curl
want nft nftables
want ncat ncat
want sniproxy sniproxy
want sslh-select sslh
want postgrey postgrey
want stunnel4 stunnel4
want nghttpx nghttp2-proxy
want apache2 apache2-bin
want turnserver coturn
want haproxy haproxy
want dnsmasq dnsmasq-base
want rbldnsd rbldnsd
want dig bind9-dnsutils
ls /usr/lib/nginx/modules/ngx_stream_module.so >/dev/null 2>&1 || need="$need nginx libnginx-mod-stream"
ls /usr/lib/nginx/modules/ngx_mail_module.so >/dev/null 2>&1 || need="$need libnginx-mod-mail"
[ -d /usr/lib/python3/dist-packages/twisted ] || need="$need python3-twisted"
for library in libgnutls-dane.so.0:libgnutls-dane0 libidn.so.12:libidn12 libdb-5.3.so:libdb5.3 libevent-2.1.so.7:libevent-2.1-7 \
    libldap-2.5.so.0:libldap-2.5-0 libnsl.so.2:libnsl2 libsasl2.so.2:libsasl2-2 libwrap.so.0:libwrap0 liblockfile.so.1:liblockfile1; do
    ls /usr/lib/*/"${library%%:*}" >/dev/null 2>&1 || need="$need ${library##*:}"
done
want m4 m4
want ip iproute2
want tcpdump tcpdump
want sqlite3 sqlite3
want ssh-keygen openssh-client
want sshd openssh-server
want openssl openssl

# Consumers of our formats that Debian does not have, in an environment of their own.
python=${CARGO_TARGET_DIR:-target}/python
pythons="xarf==1.0.0 intelmq==3.5.0"
python_is_there() {
    [ "$(cat "$python/packages" 2>/dev/null)" = "$pythons" ]
}
install_pythons() {
    python3 -m venv "$python"
    # shellcheck disable=SC2086
    "$python/bin/pip" install --quiet --disable-pip-version-check $pythons
    echo "$pythons" >"$python/packages"
}
if ! python_is_there; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || need="$need python3-venv"
fi

# Debian lets no second mail server be installed beside Postfix: these are unpacked.
unpacked=${CARGO_TARGET_DIR:-target}
users="Debian-exim opensmtpd opensmtpq"
mail_servers_are_there() {
    [ -x "$unpacked/exim/usr/sbin/exim4" ] && [ -x "$unpacked/opensmtpd/usr/sbin/smtpd" ] &&
        [ -x "$unpacked/sendmail/usr/libexec/sendmail/sendmail" ] && [ -d "$unpacked/sendmail/usr/share/sendmail/cf" ] &&
        id $users >/dev/null 2>&1
}
unpack() {
    directory=$unpacked/$1
    shift
    rm -rf "$directory"
    mkdir -p "$directory"
    (
        cd "$directory"
        apt-get -qq -o APT::Sandbox::User=root download "$@"
        for package in *.deb; do dpkg -x "$package" .; done
        # A program with a user of its own outlives whoever started it.
        chmod -R ug-s .
    )
}
unpack_mail_servers() {
    unpack exim exim4-daemon-light
    unpack opensmtpd opensmtpd
    unpack sendmail sendmail-bin sendmail-cf
    for user in $users; do
        id "$user" >/dev/null 2>&1 ||
            $as_root useradd --system --no-create-home --shell /usr/sbin/nologin --user-group "$user"
    done
}

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if [ -z "$need" ] && mail_servers_are_there; then
    python_is_there || install_pythons
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests need these programs, by their Debian names:$need" >&2
    exit 1
fi
# Debian asks this script before a package starts its service.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod +x "$policy"
    made_policy=yes
fi
trap '[ -z "$made_policy" ] || $as_root rm -f "$policy"' EXIT

export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
[ -z "$need" ] || $as_root apt-get install -y -qq --no-install-recommends $need >/dev/null
mail_servers_are_there || unpack_mail_servers
python_is_there || install_pythons
