using Microsoft.Extensions.Time.Testing;
using Pandora.Vmm.Firecracker;
using Pandora.Linux;

namespace Pandora.Tests.Vmm;

/// <summary>Files that a VMM under the control of its guest can put into its jail, whose root the VMM owns.</summary>
public sealed class JailTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly string _hostFile;
    private readonly FirecrackerJail _jail;

    public JailTests()
    {
        _hostFile = Path.Combine(_directory, "host-file");
        File.WriteAllText(_hostFile, new string('x', 300 * 1024));
        _jail = new FirecrackerJail(Path.Combine(_directory, "jails"), "/firecracker", "one");
        Directory.CreateDirectory(_jail.Root);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_log_that_was_replaced_by_another_file_is_neither_read_nor_emptied(bool isLink)
    {
        var time = new FakeTimeProvider();
        using var logs = new BoundedLogs(time);
        var log = Path.Combine(_jail.Root, FirecrackerJail.LogName);
        Replace(log, isLink);
        logs.Watch(log);
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(300 * 1024, new FileInfo(_hostFile).Length);
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
        Assert.Equal(300 * 1024, new FileInfo(_hostFile).Length);
        Assert.StartsWith("yyy", BoundedLogs.ReadEnd(log));
    }

    [Fact]
    public void A_snapshot_takes_the_file_that_was_made_even_if_another_has_its_name()
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
        Assert.Equal((0, 0), (FileStatus.FindTarget(target)!.Value.Owner, FileStatus.FindTarget(_hostFile)!.Value.Owner));
        Assert.Equal(300 * 1024, new FileInfo(_hostFile).Length);
    }

    private void Replace(string path, bool isLink)
    {
        File.Delete(path);
        if (isLink)
        {
            File.CreateSymbolicLink(path, _hostFile);
        }
        else
        {
            Assert.True(Libc.TryLink(_hostFile, path));
        }
    }
}
