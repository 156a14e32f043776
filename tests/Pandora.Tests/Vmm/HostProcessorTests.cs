using Pandora.Vmm.Host;

namespace Pandora.Tests.Vmm;

public sealed class HostProcessorTests
{
    [Fact]
    public void A_VMM_that_is_upgraded_while_the_server_runs_has_another_identity()
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, "version 1");
            var before = HostProcessor.Identify(path);
            Assert.Equal(before, HostProcessor.Identify(path));
            // Replaces the file as the installation of a package does.
            File.WriteAllText(path + ".new", "version 2");
            File.SetLastWriteTimeUtc(path + ".new", new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
            File.Move(path + ".new", path, overwrite: true);
            Assert.NotEqual(before, HostProcessor.Identify(path));
            File.Delete(path);
            Assert.EndsWith("gone", HostProcessor.Identify(path));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_program_is_found_where_the_launcher_finds_it() => Assert.DoesNotContain("gone", HostProcessor.Identify("sh"));
}
