import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

@Suite struct WindowTests {
  private func window(
    _ days: [Weekday], _ from: Int, _ to: Int, _ zone: String = "Europe/Berlin"
  ) -> WeeklyWindow {
    WeeklyWindow(days: days, fromMinute: from, toMinute: to, timeZone: zone, position: nil)
  }
  /// 2026-03-28 00:00:00Z, the day before clocks in Berlin go from 02:00 to 03:00.
  private let spring = WallTime(secondsSince1970: 1_774_656_000)
  /// 2026-10-24 00:00:00Z, the day before they go from 03:00 to 02:00.
  private let autumn = WallTime(secondsSince1970: 1_792_800_000)

  @Test func opensByTheClockOnTheWall() {
    // Saturday 02:00 to 04:00 in Berlin is 01:00Z to 03:00Z in winter.
    let opening = WindowOpening.currentOrNext(of: [window([.sat], 120, 240)], at: spring)
    #expect(opening.map { rendered($0.from) } == "2026-03-28 01:00:00Z")
    #expect(opening.map { rendered($0.to) } == "2026-03-28 03:00:00Z")
    #expect(!WindowOpening.isOpen([window([.sat], 120, 240)], at: spring))
    #expect(WindowOpening.isOpen([window([.sat], 120, 240)], at: spring.adding(seconds: 3600)))
    #expect(!WindowOpening.isOpen([window([.sat], 120, 240)], at: spring.adding(seconds: 3 * 3600)))
  }

  @Test func aStartThatSpringSkipsIsTheFirstInstantAfterTheGap() {
    let opening = WindowOpening.currentOrNext(of: [window([.sun], 150, 240)], at: spring)
    #expect(opening.map { rendered($0.from) } == "2026-03-29 01:00:00Z")
    #expect(opening.map { rendered($0.to) } == "2026-03-29 02:00:00Z")
  }

  @Test func anHourThatAutumnShowsTwiceIsOpenBothTimes() {
    let opening = WindowOpening.currentOrNext(of: [window([.sun], 120, 150)], at: autumn)
    #expect(opening.map { rendered($0.from) } == "2026-10-25 00:00:00Z")
    #expect(opening.map { rendered($0.to) } == "2026-10-25 01:30:00Z")
  }

  @Test func crossesMidnightAndWholeDays() {
    let night = WindowOpening.currentOrNext(of: [window([.fri], 23 * 60, 60, "UTC")], at: spring)
    #expect(night.map { rendered($0.from) } == "2026-03-27 23:00:00Z")
    let whole = WindowOpening.currentOrNext(of: [window([.sat], 0, 1440, "UTC")], at: spring)
    #expect(whole.map { rendered($0.to) } == "2026-03-29 00:00:00Z")
  }

  /// From and to of the opening at that instant, or the next one.
  private func opening(_ windows: [WeeklyWindow], at instant: WallTime) -> String {
    WindowOpening.currentOrNext(of: windows, at: instant).map { "\(rendered($0.from)) \(rendered($0.to))" } ?? "none"
  }
  private func night(_ first: Weekday, _ second: Weekday, _ zone: String) -> [WeeklyWindow] {
    [window([second], 0, 240, zone), window([first], 22 * 60, 1440, zone)]
  }

  @Test func openingsThatTouchAreOne() {
    let friday = WallTime(secondsSince1970: 1_774_656_000 - 3600)
    let night = night(.fri, .sat, "UTC")
    #expect(opening(night, at: friday) == "2026-03-27 22:00:00Z 2026-03-28 04:00:00Z", "before midnight")
    #expect(opening(night, at: spring) == "2026-03-27 22:00:00Z 2026-03-28 04:00:00Z", "at midnight")
    #expect(opening(night, at: spring.adding(seconds: -86_400)) == "2026-03-27 22:00:00Z 2026-03-28 04:00:00Z")
    let apart = [window([.fri], 22 * 60, 1439, "UTC"), window([.sat], 0, 240, "UTC")]
    #expect(opening(apart, at: friday) == "2026-03-27 22:00:00Z 2026-03-27 23:59:00Z", "a minute between is a minute")
    let overlapping = [window([.fri], 22 * 60, 60, "UTC"), window([.sat], 30, 240, "UTC")]
    #expect(opening(overlapping, at: friday) == "2026-03-27 22:00:00Z 2026-03-28 04:00:00Z")
    let zones = [window([.fri], 22 * 60, 1440, "UTC"), window([.sat], 60, 240, "Europe/Berlin")]
    #expect(
      opening(zones, at: friday) == "2026-03-27 22:00:00Z 2026-03-28 03:00:00Z", "01:00 in Berlin is midnight UTC")
  }

  @Test func theNightOfAChangeOfTheClocksIsOneOpeningToo() {
    let night = night(.sat, .sun, "Europe/Berlin")
    #expect(opening(night, at: spring) == "2026-03-28 21:00:00Z 2026-03-29 02:00:00Z", "five hours")
    #expect(opening(night, at: autumn) == "2026-10-24 20:00:00Z 2026-10-25 03:00:00Z", "seven hours")
  }

  @Test func aMidnightThatIsSkippedOrShownTwiceBreaksNothing() {
    // Clocks in Havana go from 00:00 to 01:00 on 2026-03-08, and from 01:00 back to 00:00 on 2026-11-01.
    let night = night(.sat, .sun, "America/Havana")
    let march = WallTime(secondsSince1970: 1_772_841_600)
    #expect(opening(night, at: march) == "2026-03-08 03:00:00Z 2026-03-08 08:00:00Z")
    let october = WallTime(secondsSince1970: 1_793_404_800)
    #expect(opening(night, at: october) == "2026-11-01 02:00:00Z 2026-11-01 09:00:00Z")
  }

  @Test func aWholeWeekNeverCloses() {
    let week = [window(Weekday.allCases, 0, 1440)]
    let left = WindowOpening.currentOrNext(of: week, at: spring).map {
      $0.to.secondsSince1970 - spring.secondsSince1970
    }
    #expect(left.map { $0 > 14 * 86_400 } == true)
    let almost = [window([.mon, .tue, .wed, .thu, .fri, .sat], 0, 1440, "UTC")]
    // Sunday: the next one begins on Monday and lasts to the end of Saturday.
    #expect(opening(almost, at: spring.adding(seconds: 90_000)) == "2026-03-30 00:00:00Z 2026-04-05 00:00:00Z")
  }

  @Test func noWindowIsAlwaysOpenAndAnUnknownZoneNever() {
    #expect(WindowOpening.isOpen([], at: spring))
    #expect(!WindowOpening.isOpen([window([.sat], 0, 1440, "Mars/Olympus")], at: spring))
    #expect(WindowOpening.currentOrNext(of: [window([], 0, 1440)], at: spring) == nil)
  }
}

@Suite struct NamingTests {
  @Test func diskNamesAreValidInAzureAndDiffer() {
    let long = String(repeating: "ä-/b", count: 60)
    let names = [("erp", "data"), ("erp", "data2"), (long, long), (long, long + "x"), ("a/b", "c"), ("a", "b/c")].map {
      diskName(plan: PlanID("p"), migration: MigrationName($0.0), volume: VolumeName($0.1))
    }
    #expect(Set(names).count == names.count)
    for name in names {
      #expect(name.count <= 80)
      #expect(name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }, "\(name)")
      #expect(name.last?.isHexDigit == true)
    }
    #expect(names[0] == "cmc-erp-data-\(names[0].suffix(16))", "the same on every machine")
  }

  @Test func theConfigurationDigestIgnoresThePhaseOnly() {
    let plan = samplePlan(.synchronized)
    var other = plan
    other.erp.cutover.phase.value = .finalized
    other.erp.description = "words"
    #expect(configurationText(of: plan.erp, in: plan) == configurationText(of: other.erp, in: other))
    other.erp.cutover.verify = .none
    #expect(configurationText(of: plan.erp, in: plan) != configurationText(of: other.erp, in: other))
  }
}
