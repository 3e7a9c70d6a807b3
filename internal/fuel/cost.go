package fuel

// CostTable is the version of the prices below. Changing one of them makes a new
// version: a receipt states fuel, and whoever runs the job again must find the
// same.
const CostTable = 1

// Prices of instructions in units of fuel. What only gives code its structure
// (block, loop, else, end, nop) is free; all that is not named costs one.
const (
	costPlain  = 1
	costDivide = 8   // division, remainder, square root
	costCall   = 4   // of a function of the module
	costTable  = 8   // a call through a table
	costHost   = 512 // a call of the host, besides what it does; also each call through a table that may reach the host
	costRange  = 4   // operations on ranges, before their length
	costGrow   = 64  // memory.grow, before its pages
)

// Prices by length: a unit for 2^n elements, or 2^n units for one.
const (
	bytesPerUnit  = 3  // shift: a unit for 8 bytes of memory.copy, fill and init
	unitsPerPage  = 10 // shift: 1024 units for a page of memory.grow
	unitsPerEntry = 0  // shift: a unit for an entry of a table
	localsPerUnit = 8  // variables that a call sets to zero for a unit
)

// cost is the price of an instruction that has neither length nor callee.
func cost(op byte) int64 {
	switch op {
	case opBlock, opLoop, opElse, opEnd, opNop:
		return 0
	case 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, // integer division and remainder
		0x91, 0x95, 0x9f, 0xa3: // square root and division of floats
		return costDivide
	}
	return costPlain
}

// ReadPrice is what a guest pays for reading so many bytes of a file, besides the
// price of the call: as for copying them. Who runs guests charges it.
func ReadPrice(bytes int64) int64 { return bytes >> bytesPerUnit }
