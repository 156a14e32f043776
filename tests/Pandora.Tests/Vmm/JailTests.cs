using Microsoft.Extensions.Time.Testing;
using Pandora.Vmm.Firecracker;
using Pandora.Linux;

namespace Pandora.Tests.Vmm;

/// <summary>What a VMM that a guest has taken over can leave in its jail, whose root is its own.</summary>
public sealed class JailTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly string _hosts;
    private readonly FirecrackerJail _jail;

    public JailTests()
    {
        _hosts = Path.Combine(_directory, "the-hosts");
        File.WriteAllText(_hosts, new string('x', 300 * 1024));
        _jail = new FirecrackerJail(Path.Combine(_directory, "jails"), "/firecracker", "one");
        Directory.CreateDirectory(_jail.Root);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_log_that_became_another_file_is_neither_read_nor_emptied(bool isLink)
    {
        var time = new FakeTimeProvider();
        using var logs = new BoundedLogs(time);
        var log = Path.Combine(_jail.Root, FirecrackerJail.LogName);
        Replace(log, isLink);
        logs.Watch(log);
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(300 * 1024, new FileInfo(_hosts).Length);
        Assert.Equal("", BoundedLogs.ReadEnd(log));
    }

    [Fact]
    public void The_kept_end_of_a_log_is_not_written_through_a_link()
    {
        var time = new FakeTimeProvider();
        using var logs = new BoundedLogs(time);
        var log = Path.Combine(_jail.Root, FirecrackerJail.LogName);
        File.WriteAllText(log, new string('y', 300 * 1024));
        Replace(log + ".end", isLink: true);
        logs.Watch(log);
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(0, new FileInfo(log).Length);
        Assert.Equal(300 * 1024, new FileInfo(_hosts).Length);
        Assert.StartsWith("yyy", BoundedLogs.ReadEnd(log));
    }

    [Fact]
    public void A_snapshots_file_is_the_one_that_was_made_whatever_has_its_name()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "only root gives files away");
        var target = Path.Combine(_directory, "memory");
        var path = Path.Combine(_jail.Root, "memory");
        Replace(path, isLink: true);
        using var made = _jail.MakeFile("memory", 12345);
        RandomAccess.Write(made, "guest"u8, 0);
        File.Move(path, path + ".moved");
        Replace(path, isLink: true);
        _jail.TakeFile(made, "memory", target);
        Assert.Equal("guest", File.ReadAllText(target));
        Assert.Equal((0, 0), (FileStatus.FindTarget(target)!.Value.Owner, FileStatus.FindTarget(_hosts)!.Value.Owner));
        Assert.Equal(300 * 1024, new FileInfo(_hosts).Length);
    }

    private void Replace(string path, bool isLink)
    {
        File.Delete(path);
        if (isLink)
        {
            File.CreateSymbolicLink(path, _hosts);
        }
        else
        {
            Assert.True(Libc.TryLink(_hosts, path));
        }
    }
}
