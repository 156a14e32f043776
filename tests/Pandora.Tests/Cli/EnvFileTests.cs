using Pandora.Cli;

namespace Pandora.Tests.Cli;

public sealed class EnvFileTests : IDisposable
{
    private readonly string _file = Path.GetTempFileName();

    public void Dispose() => File.Delete(_file);

    [Fact]
    public void Values_are_as_they_are_and_a_name_alone_takes_the_callers_value()
    {
        File.WriteAllText(_file, "# comment\n\nA=1\n  B= \"two\" = 2 \nEMPTY=\nPATH\nPANDORA_NOT_SET_ANYWHERE\nA=again\n");
        Assert.Equal(
            new Dictionary<string, string>
            {
                ["A"] = "again",
                ["B"] = " \"two\" = 2 ",
                ["EMPTY"] = "",
                ["PATH"] = Environment.GetEnvironmentVariable("PATH")!,
            },
            EnvFile.Read(_file));
    }

    [Theory]
    [InlineData("A=1\n=2\n", "line 2")]
    [InlineData("A B=1\n", "line 1")]
    [InlineData("export A=1\n", "line 1")]
    [InlineData("A=\0\n", "line 1")]
    public void A_line_that_is_not_understood_is_named_with_its_file(string text, string line)
    {
        File.WriteAllText(_file, text);
        var error = Assert.Throws<UsageException>(() => EnvFile.Read(_file));
        Assert.Contains(line, error.Message, StringComparison.Ordinal);
        Assert.Contains(_file, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_cannot_be_read_is_named()
    {
        var error = Assert.Throws<UsageException>(() => EnvFile.Read("/nowhere/env"));
        Assert.Contains("/nowhere/env", error.Message, StringComparison.Ordinal);
        File.WriteAllBytes(_file, [0x41, 0x3D, 0xFF]);
        Assert.Contains("UTF-8", Assert.Throws<UsageException>(() => EnvFile.Read(_file)).Message, StringComparison.Ordinal);
    }
}
