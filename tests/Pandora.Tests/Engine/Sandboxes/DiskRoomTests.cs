using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

public sealed class DiskRoomTests : IDisposable
{
    private const long MiB = 1024 * 1024;
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_claim_needs_the_reserve_and_a_share_of_the_growth_of_sparse_disks()
    {
        using (var disk = File.Create(Path.Combine(_directory, "a.ext4")))
        {
            disk.Write(new byte[MiB]);
            disk.SetLength(1001 * MiB);
            disk.Flush(flushToDisk: true);
        }

        var room = Create(reserve: 5, share: 10);
        Assert.InRange(room.Growth, 999 * MiB, 1001 * MiB);
        Assert.InRange(room.Needed, 104 * MiB, 106 * MiB);
        Assert.InRange(Create(reserve: 5, share: 100).Needed, 1004 * MiB, 1006 * MiB);
        Assert.Equal(5 * MiB, Create(reserve: 5, share: 0).Needed);
        room.Ensure();
        Assert.Null(room.Warning);
    }

    [Fact]
    public void Without_room_the_refusal_says_why_and_the_warning_says_how_much_is_needed()
    {
        var free = new DriveInfo(_directory).AvailableFreeSpace / MiB;
        var room = Create(reserve: (int)Math.Min(1_000_000, free + 1000), share: 0);
        Assert.SkipWhen(free > 900_000, "this disk has more room than a reserve can be");
        var refused = Assert.Throws<PandoraException>(room.Ensure);
        Assert.Equal(PandoraError.HostFull, refused.Error);
        Assert.StartsWith("the server's disk has fewer MiB free than another sandbox needs", refused.Message);
        Assert.DoesNotMatch("[0-9]", refused.Message + refused.Hint);
        Assert.Contains("no microVM is handed out", room.Warning);
        Assert.False(room.HasReserve);
        Assert.Contains("and below", Create(reserve: (int)(free * 0.8), share: 0).Warning);
    }

    [Fact]
    public void A_disk_that_could_grow_beyond_the_free_space_is_refused_before_it_exists()
    {
        var free = new DriveInfo(_directory).AvailableFreeSpace;
        var room = Create(reserve: 0, share: 10);
        room.Ensure(growth: free);
        Assert.Equal(PandoraError.HostFull, Assert.Throws<PandoraException>(() => room.Ensure(growth: free * 12)).Error);
        Assert.True(room.HasRoomFor(free / 2));
        Assert.False(room.HasRoomFor(free * 2));
    }

    [Fact]
    public void An_error_of_the_hosts_disk_is_only_in_the_log()
    {
        using var log = new KeptLog();
        var directory = Directory.CreateDirectory(Path.Combine(_directory, "disks")).FullName;
        var room = new DiskRoom(new EngineOptions(), directory, log.CreateLogger<DiskRoom>());
        Directory.Delete(directory);
        var refused = Assert.Throws<PandoraException>(room.Ensure);
        Assert.Equal((PandoraError.HostFull, null), (refused.Error, refused.Hint));
        Assert.DoesNotContain(directory, refused.Message);
        Assert.Contains(log.Lines, l => l.Text.Contains(directory, StringComparison.Ordinal));
    }

    private DiskRoom Create(int reserve, int share) =>
        new(new EngineOptions { DiskReserve = reserve, DiskShare = share }, _directory, NullLogger<DiskRoom>.Instance);
}
