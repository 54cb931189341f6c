// What a process has used so far, as Linux tells it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The kernel's unit in /proc/PID/stat; fixed for user space on Linux.
const tick = 10 * time.Millisecond

type usage struct {
	// CPU time by thread, from schedstat.
	threads map[string]time.Duration
	// utime and stime.
	ticks time.Duration
	rss   int64
	// CPU time of this process.
	own time.Duration
}

type spent struct{ scheduled, ticks, own time.Duration }

// look reads the server's account and ours. Without a pid the server's is empty.
func look(pid int) (usage, error) {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return usage{}, err
	}
	u := usage{threads: map[string]time.Duration{}, own: time.Duration(self.Utime.Nano() + self.Stime.Nano())}
	if pid == 0 {
		return u, nil
	}
	proc := fmt.Sprintf("/proc/%d", pid)
	files, err := filepath.Glob(proc + "/task/*/schedstat")
	if err != nil {
		return usage{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		nanos, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("%s: %w", file, err)
		}
		u.threads[file] = time.Duration(nanos)
	}
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return usage{}, fmt.Errorf("the server is gone: %w", err)
	}
	// The name, in brackets, may hold spaces; utime and stime are fields 14 and 15, resident pages field 24.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	number := func(field int) int64 {
		n, _ := strconv.ParseInt(string(fields[field-3]), 10, 64)
		return n
	}
	u.ticks = time.Duration(number(14)+number(15)) * tick
	u.rss = number(24) * int64(os.Getpagesize())
	return u, nil
}

// since is what was used between two looks. A thread that ended in between is in the ticks alone.
func (u usage) since(before usage) spent {
	s := spent{ticks: u.ticks - before.ticks, own: u.own - before.own}
	for thread, ran := range u.threads {
		s.scheduled += ran - before.threads[thread]
	}
	if len(u.threads) == 0 {
		s.scheduled = s.ticks // a kernel without schedstat
	}
	return s
}
