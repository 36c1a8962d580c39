import MigrationModel
import Planning
import Testing

/// What a disk is billed for, and where a little less would cost a tier less.
@Suite struct DiskBillingTests {
  @Test(arguments: [
    (1, "P1"), (4, "P1"), (5, "P2"), (32, "P4"), (33, "P6"), (512, "P20"), (513, "P30"), (1024, "P30"), (32767, "P80"),
  ])
  func aSizePaysForTheTierThatHoldsIt(gib: Int, tier: String) {
    #expect(diskBilling(.premium, gib: gib).tier == tier)
  }

  @Test func aSizeJustOverATiersEdgeIsSaid() {
    let over = diskBilling(.premium, gib: 520)
    #expect(over.hint == "8 GiB over P20: 512 GiB or less would cost P20, this size pays for P30")
    #expect(over.text.hasPrefix("billed as P30: 1024 GiB, 5000 IOPS, 200 MB/s, until it is deleted; 8 GiB over P20"))
    #expect(diskBilling(.premium, gib: 512).hint == nil)
    #expect(diskBilling(.premium, gib: 800).hint == nil)
    #expect(diskBilling(.premium, gib: 1).hint == nil)
  }

  @Test func standardDisksHaveTiersOfTheirOwn() {
    #expect(diskBilling(.standardHDD, gib: 10).tier == "S4")
    #expect(diskBilling(.standardSSD, gib: 10).tier == "E3")
    #expect(diskBilling(.standardSSDZoneRedundant, gib: 129).tier == "E15")
    #expect(diskBilling(.standardSSD, gib: 130).hint?.contains("E10") == true)
  }

  @Test func performanceIsPaidForWhereItIsChosen() {
    let second = diskBilling(.premiumV2, gib: 200, iops: 8000, megabytesPerSecond: 400)
    #expect((second.billedGiB, second.extraIOPS, second.extraMegabytesPerSecond) == (200, 5000, 275))
    let plain = diskBilling(.premiumV2, gib: 200)
    #expect(
      plain.text == "billed for 200 GiB, 3000 IOPS (included), 125 MB/s (included), until it is deleted")
    let ultra = diskBilling(.ultra, gib: 600, iops: 2000, megabytesPerSecond: 100)
    #expect((ultra.billedGiB, ultra.extraIOPS, ultra.extraMegabytesPerSecond) == (1024, 2000, 100))
  }
}
