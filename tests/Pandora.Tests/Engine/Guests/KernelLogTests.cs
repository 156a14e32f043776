using Pandora.Agent.Control;

namespace Pandora.Tests.Guests;

public sealed class KernelLogTests
{
    [Theory]
    [InlineData("3,412,5912345,-;I/O error, dev vdb, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2\n", true)]
    [InlineData("3,413,5912346,-;Buffer I/O error on dev vdb, logical block 12, lost async page write\n", true)]
    [InlineData("3,414,5912347,-;blk_update_request: I/O error, dev vdb, sector 0 op 0x0:(READ)\n", true)]
    [InlineData("11,415,5912348,-;I/O error, dev vdb, sector 2048 op 0x1:(WRITE)\n", false)] // A program wrote it.
    [InlineData("3,416,5912349,-;I/O error, dev loop0, sector 2048 op 0x1:(WRITE)\n", false)]
    [InlineData("6,417,5912350,-;EXT4-fs (vdb): mounted filesystem\n", false)]
    [InlineData(";I/O error, dev vdb", false)]
    [InlineData("", false)]
    public void Only_a_kernel_record_about_a_guests_disk_counts(string record, bool counts) =>
        Assert.Equal(counts, KernelLog.IsDiskError(record));
}
