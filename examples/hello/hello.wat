;; The hello job: writes its arguments, joined by spaces, backwards and ends
;; the line. "Backwards" is by Unicode code points, so that "žluť" survives.
;; It is the smallest complete WASI preview 1 program of this project; hello.go
;; does the same in Go. `go test ./examples/hello -update` assembles hello.wasm.
;;
;; Memory: 0 argc, 4 size of the argument bytes, 8 one iovec, 16 bytes written;
;; from 32 on: argc pointers, the arguments (each ends with a NUL), the output.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)

  (func $_start (export "_start")
    (local $argc i32) (local $text i32) (local $end i32) (local $out i32)
    i32.const 0
    i32.const 4
    call $args_sizes_get
    call $must
    i32.const 0
    i32.load
    local.set $argc

    ;; text = 32 + 4*argc; end = text + size; out = end
    local.get $argc
    i32.const 4
    i32.mul
    i32.const 32
    i32.add
    local.tee $text
    i32.const 4
    i32.load
    i32.add
    local.tee $end
    local.set $out

    ;; room up to end + size + 1 byte for the line's end
    local.get $end
    i32.const 4
    i32.load
    i32.add
    i32.const 1
    i32.add
    call $reserve

    i32.const 32
    local.get $text
    call $args_get
    call $must

    ;; without arguments there is nothing to turn
    local.get $argc
    i32.const 1
    i32.gt_u
    if
      ;; the text starts at argument 1 and ends before the last NUL
      i32.const 36
      i32.load
      local.set $text
      local.get $text
      local.get $end
      i32.const 1
      i32.sub
      local.get $out
      call $reverse
      local.set $out
    end

    local.get $out
    i32.const 10
    i32.store8
    local.get $end
    local.get $out
    i32.const 1
    i32.add
    call $print
  )

  ;; $reverse writes the code points of [$from, $to) to $out, last first, and a
  ;; space for each NUL. It gives the end of what it wrote.
  (func $reverse (param $from i32) (param $to i32) (param $out i32) (result i32)
    (local $at i32) (local $byte i32)
    block $done
      loop $points
        local.get $to
        local.get $from
        i32.le_u
        br_if $done

        ;; back to the first byte of the code point: 10xxxxxx continues one
        local.get $to
        local.set $at
        block $found
          loop $back
            local.get $at
            i32.const 1
            i32.sub
            local.tee $at
            local.get $from
            i32.le_u
            br_if $found
            local.get $at
            i32.load8_u
            i32.const 0xc0
            i32.and
            i32.const 0x80
            i32.eq
            br_if $back
          end
        end

        ;; copy [$at, $to)
        i32.const 0
        local.set $byte
        loop $copy
          local.get $out
          local.get $at
          local.get $byte
          i32.add
          i32.load8_u
          call $blank
          i32.store8
          local.get $out
          i32.const 1
          i32.add
          local.set $out
          local.get $byte
          i32.const 1
          i32.add
          local.tee $byte
          local.get $at
          i32.add
          local.get $to
          i32.lt_u
          br_if $copy
        end
        local.get $at
        local.set $to
        br $points
      end
    end
    local.get $out
  )

  ;; $blank turns the NUL between two arguments into a space.
  (func $blank (param $byte i32) (result i32)
    i32.const 32
    local.get $byte
    local.get $byte
    i32.eqz
    select
  )

  ;; $print writes [$from, $to) to standard output, however many calls it takes.
  (func $print (param $from i32) (param $to i32)
    loop $more
      i32.const 8
      local.get $from
      i32.store
      i32.const 12
      local.get $to
      local.get $from
      i32.sub
      i32.store
      i32.const 1
      i32.const 8
      i32.const 1
      i32.const 16
      call $fd_write
      call $must
      local.get $from
      i32.const 16
      i32.load
      i32.add
      local.tee $from
      local.get $to
      i32.lt_u
      br_if $more
    end
  )

  ;; $reserve grows the memory until it holds $bytes bytes.
  (func $reserve (param $bytes i32)
    (local $pages i32)
    local.get $bytes
    i32.const 65535
    i32.add
    i32.const 16
    i32.shr_u
    local.tee $pages
    memory.size
    i32.gt_u
    if
      local.get $pages
      memory.size
      i32.sub
      memory.grow
      i32.const -1
      i32.eq
      call $must
    end
  )

  ;; $must stops the program unless a call answered 0.
  (func $must (param $errno i32)
    local.get $errno
    if
      unreachable
    end
  )
)
