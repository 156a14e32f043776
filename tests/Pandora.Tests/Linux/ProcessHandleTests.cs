using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Pandora.Tests.Telemetry;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Tests.Linux;

/// <summary>Only a process that has ended is reported as missing.</summary>
[Collection(nameof(Alone))]
public sealed class ProcessHandleTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void An_ended_process_and_the_id_of_a_thread_are_no_process()
    {
        using var process = Process.Start("true");
        process.WaitForExit();
        Assert.Null(ProcessHandle.TryOpen(process.Id));
        Assert.False(ProcessHandle.Exists(process.Id, 1));
        var thread = Directory.GetDirectories("/proc/self/task").Select(d => int.Parse(Path.GetFileName(d), CultureInfo.InvariantCulture))
            .First(t => t != Environment.ProcessId);
        Assert.Null(ProcessHandle.TryOpen(thread));
        Assert.Null(ProcessHandle.TryOpen(0));
        Assert.Null(VmmProcess.Find(_directory, "id"));
    }

    [Fact]
    public async Task A_stat_file_opened_before_the_process_ended_reports_the_end()
    {
        using var process = Process.Start("sleep", "60");
        await using var stat = new FileStream($"/proc/{process.Id}/stat", FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        process.Kill();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(ProcessHandle.IsGone(Assert.ThrowsAny<IOException>(() => stat.ReadByte())));
    }

    [Fact]
    public void A_process_that_cannot_be_checked_for_lack_of_descriptors_is_not_reported_dead()
    {
        var pid = Environment.ProcessId;
        var start = ProcessHandle.StartTimeOf(pid)!.Value;
        File.WriteAllText(Path.Combine(_directory, "vmm.pid"), $"{pid}\n");
        ProcessHandle.TryOpen(pid, start)!.Dispose();
        // Closes the handles that earlier tests did not dispose, before the lowest free descriptor is determined.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        ulong free;
        using (var file = File.OpenHandle("/dev/null"))
        {
            free = (ulong)file.DangerousGetHandle();
        }

        // First no descriptor is free; then one, which the handle takes, so that the start time cannot be read.
        foreach (var limit in new[] { free, free + 1 })
        {
            var seen = WithDescriptors(limit, () => Record.Exception(() => ProcessHandle.TryOpen(pid, start)));
            Assert.IsAssignableFrom<IOException>(seen);
        }

        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => ProcessHandle.Exists(pid, start))));
        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => ProcessHandle.OpenAll([pid]))));
        Assert.IsAssignableFrom<IOException>(WithDescriptors(free, () => Record.Exception(() => VmmProcess.Find(_directory, "id"))));
        Assert.True(ProcessHandle.Exists(pid, start));
    }

    private static T WithDescriptors<T>(ulong limit, Func<T> act)
    {
        Assert.Equal(0, GetLimit(OpenFiles, out var before));
        try
        {
            Assert.Equal(0, SetLimit(OpenFiles, before with { Soft = limit }));
            return act();
        }
        finally
        {
            _ = SetLimit(OpenFiles, before);
        }
    }

    private const int OpenFiles = 7; // RLIMIT_NOFILE

    [DllImport("libc", EntryPoint = "getrlimit")]
    private static extern int GetLimit(int resource, out Limits limits);

    [DllImport("libc", EntryPoint = "setrlimit")]
    private static extern int SetLimit(int resource, in Limits limits);

    private record struct Limits(ulong Soft, ulong Hard);
}
