#!/bin/sh
# Runs as root in a Debian whose init is systemd, from life.service. /packages has an
# old and a new version of plasmd; what is found goes there as well.
cd /packages || exit 1
exec >>said 2>&1
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

fail() {
	echo "FAIL: $*"
	systemctl status --no-pager --full plasmd.service
	journalctl --no-pager -o cat -u plasmd.service | tail -n 40
	echo ended
	systemctl poweroff --force --force
	exit 1
}
active() { systemctl is-active --quiet plasmd.service || fail "$1: not active"; }
key() { sha256sum /var/lib/plasm/node.key || fail "no identity"; }
# provides waits for the provider's answer; this Debian has no program that asks by HTTP.
provides() {
	for i in $(seq 30); do
		bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET /health HTTP/1.0\r\n\r\n" >&3; grep -q HTTP/ <&3' && return
		sleep 1
	done 2>/dev/null
	journalctl --no-pager -o cat -u phase-provider.service | tail -n 20
	fail "the provider does not answer"
}
pid() { systemctl show -p MainPID --value plasmd.service; }

if [ ! -e first-boot ]; then
	: >first-boot
	dpkg -i old.deb || fail "install"
	active "installed"
	systemctl is-enabled --quiet plasmd.service || fail "not enabled"
	key >identity
	[ "$(stat -c '%U %G %a' /run/plasm)" = "root plasm 750" ] || fail "/run/plasm is $(stat -c '%U %G %a' /run/plasm)"
	[ "$(stat -c '%U %a' /var/lib/plasm)" = "root 700" ] || fail "/var/lib/plasm"
	systemctl show -p StatusText plasmd.service
	systemctl status --no-pager plasmd.service | head -n 12
	systemd-analyze verify /usr/lib/systemd/system/plasmd.service || fail "systemd-analyze verify"
	systemd-analyze security --no-pager plasmd.service | tail -n 1
	echo "not ours" >>/var/lib/plasm/receipts/kept

	systemctl is-enabled --quiet phase-provider.service && fail "a provider that nobody asked for"
	systemd-analyze verify /usr/lib/systemd/system/phase-provider.service || fail "systemd-analyze verify of the provider"
	mkdir -p /srv/phase
	systemctl enable --now phase-provider.service || fail "enabling the provider"
	provider=$(systemctl show -p MainPID --value phase-provider.service)
	provides
	before=$(pid)
	echo '{"listen_addrs":["/ip4/127.0.0.1/tcp/4001"]}' >/etc/plasm/config.json
	dpkg -i --force-confold new.deb || fail "upgrade"
	active "upgraded"
	[ "$(systemctl show -p MainPID --value phase-provider.service)" != "$provider" ] || fail "the old provider still runs"
	provides
	[ "$(pid)" != "$before" ] || fail "the old program still runs"
	[ "$(key)" = "$(cat identity)" ] || fail "the upgrade changed the identity"
	grep -q 127.0.0.1 /etc/plasm/config.json || fail "the upgrade changed the configuration"
	dpkg --verify plasmd

	before=$(pid)
	kill -STOP "$before"
	echo "stopped; the watchdog has to end it"
	for i in $(seq 60); do [ "$(pid)" = "$before" ] && sleep 1; done
	[ "$(pid)" != "$before" ] || fail "a daemon that hangs was not started again"
	for i in $(seq 30); do systemctl is-active --quiet plasmd.service || sleep 1; done
	active "after the watchdog"
	journalctl --no-pager -o cat -u plasmd.service | grep -i watchdog || fail "no word of the watchdog"
	sync
	systemctl reboot
	exit 0
fi

for i in $(seq 30); do systemctl is-active --quiet plasmd.service || sleep 1; done
active "started again"
[ "$(key)" = "$(cat identity)" ] || fail "another identity after the restart"
began=$(date +%s)
journalctl --no-pager -o cat -u plasmd.service | grep "in trouble" && fail "a part of the node does not work under systemd"
systemctl stop plasmd.service || fail "stop"
[ $(($(date +%s) - began)) -lt 18 ] || fail "did not stop by itself"
[ "$(systemctl show -p Result --value plasmd.service)" = success ] || fail "stopped as $(systemctl show -p Result --value plasmd.service)"
journalctl --no-pager -o cat -u plasmd.service | grep "node stops" || fail "was ended, and did not stop"
systemctl disable plasmd.service
dpkg -i new.deb || fail "installing it again"
systemctl is-enabled --quiet plasmd.service && fail "enabled again what the administrator disabled"
systemctl enable --now plasmd.service
provides
dpkg -r plasmd || fail "remove"
systemctl is-active --quiet plasmd.service && fail "active after it was removed"
systemctl is-active --quiet phase-provider.service && fail "the provider is active after it was removed"
[ "$(key)" = "$(cat identity)" ] || fail "removing lost the identity"
[ -e /etc/plasm/config.json ] || fail "removing lost the configuration"
dpkg -P plasmd >purge || fail "purge"
grep "deleting this node's identity" purge || fail "purged without a word"
for left in /var/lib/plasm /etc/plasm /usr/lib/systemd/system/plasmd.service /etc/systemd/system/multi-user.target.wants/plasmd.service \
	/etc/systemd/system/multi-user.target.wants/phase-provider.service /var/lib/private/phase-provider; do
	[ ! -e $left ] || fail "$left is left"
done
echo "all is well"
echo ended
systemctl poweroff
