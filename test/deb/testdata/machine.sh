#!/bin/sh
# Runs as root in a machine whose disk has plasmd installed, from life.service, at each
# of its two starts. What is found is said on the console, and stays in /packages/said.
cd /packages || exit 1
exec >/dev/console 2>&1
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

fail() {
	echo "FAIL: $*"
	systemctl status --no-pager --full plasmd.service
	journalctl --no-pager -o cat -u plasmd.service | tail -n 40
	sync
	systemctl poweroff --force --force
	exit 1
}
said() { echo "machine: $*" | tee -a said; }
active() { systemctl is-active --quiet plasmd.service; }
key() { sha256sum /var/lib/plasm/node.key || fail "no identity"; }
property() { systemctl show -p "$1" --value plasmd.service; }
# Up to two minutes for what comes soon, as a busy machine emulates this one.
await() {
	for i in $(seq 240); do
		"$@" && return
		sleep 0.5
	done
	fail "in vain: $*"
}
stage() { phase job get "$1" --format json | grep -q "\"stage\": \"$2\""; }
ended() { phase job get "$1" --format json | grep -q "\"state\": \"$2\""; }
another() { [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" != 0 ] && active; }
hello() { [ "$(phase job run hello.wasm "$1" World)" = "dlroW $2" ] || fail "the hello job"; }
figures() {
	bash -c 'exec 3<>/dev/tcp/127.0.0.1/4002; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3' >figures
	grep -q "^$1\$" figures || { cat figures; fail "the figures do not say $1"; }
}

if [ ! -e identity ]; then
	active || fail "not started with the machine"
	key >identity
	said "$(property StatusText)"
	[ -n "$(property WatchdogTimestamp)" ] || fail "systemd heard no sign of life"
	plasmd doctor >doctor || { cat doctor; fail "doctor"; }
	grep "^ok     wall landlock-files: stands" doctor || { cat doctor; fail "doctor sees another wall than jobs have"; }
	hello First tsriF
	journalctl -u plasmd.service -o cat -p warning --no-pager >warnings
	journalctl -u plasmd.service -o export --no-pager | grep -a -A1 -B40 "^MESSAGE=msg=\"node is up\"" | grep -a "^PRIORITY=6$" || fail "the journal has no priorities"
	grep "in trouble" warnings && fail "a part of the node does not work"
	figures 'phase_node_jobs_ended_total{state="exited"} 1'

	spins=$(phase job submit spin.wasm --deadline 290s) || fail "submit"
	await stage "$spins" running
	waits=$(phase job submit hello.wasm Second World) || fail "submit"
	before=$(property MainPID)
	kill -9 "$before"
	await another "$before"
	[ "$(key)" = "$(cat identity)" ] || fail "another identity after kill -9"
	await stage "$spins" ended
	ended "$spins" infra_error || { phase job get "$spins"; fail "what ran is not accounted for"; }
	[ "$(phase job logs --follow "$waits")" = "dlroW dnoceS" ] || fail "what waited was not run"
	[ "$(property NRestarts)" = 1 ] || fail "$(property NRestarts) restarts"
	said killed and accounted for
	phase job get --format json >jobs
	sync
	systemctl reboot
	exit 0
fi

await active
[ "$(key)" = "$(cat identity)" ] || fail "another identity after the reboot"
phase job get --format json | cmp - jobs || fail "the reboot changed what is remembered of jobs"
said the same after the reboot
mkdir -p /etc/systemd/system/plasmd.service.d
printf '[Service]\nExecStart=\nExecStart=/usr/bin/plasmd start --log-format json $PHASE_ARGS\n' >/etc/systemd/system/plasmd.service.d/override.conf
before=$(property MainPID)
dpkg -i --force-confold new.deb >upgrade 2>&1 || { cat upgrade; fail "upgrade"; }
active || fail "not active after the upgrade"
another "$before" || fail "the old program still runs"
[ "$(key)" = "$(cat identity)" ] || fail "another identity after the upgrade"
phase job get --format json | cmp - jobs || fail "the upgrade changed what is remembered of jobs"
journalctl -u plasmd.service -o cat --no-pager | grep '^{"time":.*"level":"INFO","msg":"node is up","peer":"' || fail "no JSON in the journal"
hello Third drihT
said "upgraded to $(dpkg-query -W -f '${Version}' plasmd)"
systemctl stop plasmd.service
[ "$(property Result)" = success ] || fail "stopped as $(property Result)"
said all is well
sync
systemctl poweroff
